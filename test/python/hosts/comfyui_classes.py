"""ComfyUI's own model classes on tensors of a file; run with ComfyUI's Python.

    COMFYUI_DIR=... python test/python/hosts/comfyui_classes.py FILE.pt

FILE holds {"family", "config", "weights", "steps": [inputs]}; the answers are written to FILE.out.pt. Sizes that ComfyUI's detection takes from published
models come from the configuration.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

FILE = sys.argv[1]
sys.argv = [sys.argv[0], "--cpu"]
sys.path[:0] = [os.environ["COMFYUI_DIR"], str(Path(__file__).parents[1] / "plugin/ui/comfyui/comfy_test_nodes")]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
import comfy.patcher_extension  # noqa: E402
import torch  # noqa: E402
from narrow_faces import use_widths_of  # noqa: E402

torch.set_num_threads(1)
COMMON = {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.disable_weight_init}


def listed(inputs: dict) -> dict:
    """Reference latents as ComfyUI gives them: a list, each for the whole batch."""
    batch = inputs["sample"].shape[0]
    found = [inputs[name].expand(batch, *inputs[name].shape[1:]) for name in sorted(inputs) if name.startswith("reference_latents_")]
    return {"ref_latents": found} if found else {}


def controlled(inputs: dict, **blocks: int) -> dict:
    """ControlNets' answers as ComfyUI gives them: for each kind of blocks a list with a tensor for every block."""
    control = {}
    for part, name in (("input", "double_controls"), ("input", "block_controls"), ("output", "single_controls")):
        given = [inputs[f"{name}_{number}"] for number in range(64) if f"{name}_{number}" in inputs]
        if given:
            each = -(-blocks[part] // len(given))
            control[part] = [given[number // each] for number in range(blocks[part])]
    return {"control": {"input": [], "output": [], **control}} if control else {}


def next_dit(config: dict, weights: dict):
    from comfy.ldm.lumina.model import NextDiT

    z_image = "cap_pad_token" in weights
    inner = weights["layers.0.feed_forward.w1.weight"].shape[0]
    width = weights["cap_embedder.1.weight"].shape[0]
    heads = width // weights["layers.0.attention.q_norm.weight"].shape[0]
    keys = (weights["layers.0.attention.qkv.weight"].shape[0] - width) // 2 * heads // width
    more = {"z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32} if z_image else {}
    axes = config.get("axes_dims") or config["axes_dim_rope"]
    model = NextDiT(
        patch_size=2, in_channels=16, dim=width, n_layers=2, n_heads=heads, n_kv_heads=keys, multiple_of=1, ffn_dim_multiplier=(inner + 0.5) / width, qk_norm=True,
        cap_feat_dim=weights["cap_embedder.1.weight"].shape[1], axes_dims=axes, axes_lens=(1536, 512, 512), rope_theta=256.0 if z_image else 10000.0, **more, **COMMON,
    )  # fmt: skip
    return model, lambda given: model(
        given["sample"], given["timestep"], given["encoder_hidden_states"], given["encoder_hidden_states"].shape[1]
    )


def qwen_image(config: dict, weights: dict):
    from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel

    method = "index_timestep_zero" if "__index_timestep_zero__" in weights else "index"
    model = QwenImageTransformer2DModel(
        num_layers=2,
        num_attention_heads=config["num_attention_heads"],
        joint_attention_dim=config["joint_attention_dim"],
        default_ref_method=method,
        **COMMON,
    )

    def call(given: dict):
        mask = given["attention_mask"].long() if "attention_mask" in given else None
        more = {**listed(given), **controlled(given, input=2)}
        return model(given["sample"], given["timestep"], given["encoder_hidden_states"], attention_mask=mask, **more)

    return model, call


def flux2(config: dict, weights: dict):
    from comfy.ldm.flux.model import Flux

    model = Flux(
        image_model="flux2", axes_dim=config["axes_dims_rope"], mlp_ratio=3.0, theta=2000, out_channels=128, global_modulation=True, mlp_silu_act=True, qkv_bias=False,
        ops_bias=False, default_ref_method="index", ref_index_scale=10.0, txt_ids_dims=[3], in_channels=128, patch_size=1, vec_in_dim=None, yak_mlp=False, txt_norm=False,
        hidden_size=weights["img_in.weight"].shape[0], context_in_dim=config["joint_attention_dim"], num_heads=config["num_attention_heads"], depth=2,
        depth_single_blocks=2, guidance_embed=config["guidance_embeds"], **COMMON,
    )  # fmt: skip
    return model, lambda given: model(
        given["sample"], given["timestep"], given["encoder_hidden_states"], guidance=given.get("guidance", torch.ones(1)), **listed(given)
    )


def krea2(config: dict, weights: dict):
    from comfy.ldm.krea2.model import SingleStreamDiT

    model = SingleStreamDiT(
        features=weights["first.weight"].shape[0], txtdim=config["text_hidden_dim"], heads=config["num_attention_heads"], kvheads=config["num_key_value_heads"], layers=2,
        txtlayers=config["num_text_layers"], txtheads=config["text_num_attention_heads"], txtkvheads=config["text_num_key_value_heads"], **COMMON,
    )  # fmt: skip
    return model, lambda given: model(given["sample"], given["timestep"], given["encoder_hidden_states"])


def flux(config: dict, weights: dict):
    from comfy.ldm.flux.model import Flux

    model = Flux(
        image_model="flux", axes_dim=config["axes_dims_rope"], mlp_ratio=4.0, theta=10000, out_channels=16, qkv_bias=True, txt_ids_dims=[], in_channels=config["in_channels"] // 4,
        patch_size=2, vec_in_dim=config["pooled_projection_dim"], hidden_size=weights["img_in.weight"].shape[0], context_in_dim=config["joint_attention_dim"],
        num_heads=config["num_attention_heads"], depth=2, depth_single_blocks=2, guidance_embed=config["guidance_embeds"], **COMMON,
    )  # fmt: skip
    return model, lambda given: model(
        given["sample"], given["timestep"], given["encoder_hidden_states"], given["y"], given.get("guidance"), **listed(given),
        **controlled(given, input=2, output=2),
    )  # fmt: skip


def wan(config: dict, weights: dict):
    from comfy.ldm.wan import model_animate
    from comfy.ldm.wan.model import VaceWanModel, WanModel

    vace, animate = (f"{name}_patch_embedding.weight" in weights for name in ("vace", "pose"))
    if animate:
        use_widths_of(weights)
    more = {"vace_layers": len(config["vace_layers"]), "vace_in_dim": config["vace_in_channels"]} if vace else {}
    model = (VaceWanModel if vace else model_animate.AnimateWanModel if animate else WanModel)(
        **more,
        model_type="i2v" if "img_emb.proj.0.weight" in weights else "t2v", patch_size=(1, 2, 2), text_dim=config["text_dim"], in_dim=config["in_channels"],
        dim=weights["head.modulation"].shape[-1], ffn_dim=config["ffn_dim"], freq_dim=config["freq_dim"], out_dim=config["out_channels"],
        num_heads=config["num_attention_heads"], num_layers=config["num_layers"], cross_attn_norm=True, **COMMON,
    )  # fmt: skip

    def call(given: dict):
        control = {"vace_context": given["vace_context"], "vace_strength": given["vace_strength"][0].tolist()} if vace else {}
        control |= {name: given[name] for name in ("pose_latents", "face_pixel_values") if name in given}
        times = given.get("frame_timesteps", given["timestep"])
        return model(given["sample"], times, given["encoder_hidden_states"], given.get("encoder_hidden_states_image"), **control)

    return model, call


def chroma(config: dict, weights: dict):
    from comfy.ldm.chroma.model import Chroma

    model = Chroma(
        image_model="chroma", axes_dim=config["axes_dims_rope"], mlp_ratio=4.0, theta=10000, out_channels=64, qkv_bias=True, txt_ids_dims=[], in_channels=64, patch_size=2,
        vec_in_dim=None, hidden_size=weights["img_in.weight"].shape[0], context_in_dim=config["joint_attention_dim"], num_heads=config["num_attention_heads"],
        depth=config["num_layers"], depth_single_blocks=config["num_single_layers"], in_dim=64, out_dim=weights["img_in.weight"].shape[0],
        hidden_dim=config["approximator_hidden_dim"], n_layers=config["approximator_layers"], **COMMON,
    )  # fmt: skip
    blocks = {"input": config["num_layers"], "output": config["num_single_layers"]}
    return model, lambda given: model(
        given["sample"],
        given["timestep"],
        given["encoder_hidden_states"],
        given.get("guidance", torch.zeros_like(given["timestep"])),
        **controlled(given, **blocks),
    )


def anima(config: dict, weights: dict):
    import comfy.ldm.anima.model as anima_model

    width = weights["llm_adapter.out_proj.weight"].shape[0]
    adapter = {"source_dim": width, "target_dim": width, "model_dim": width, "num_layers": 2, "num_heads": width // 64}
    anima_model.LLMAdapter = partial(anima_model.LLMAdapter, **adapter)
    model = anima_model.Anima(
        image_model="anima", max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16, patch_spatial=2, patch_temporal=1,
        model_channels=weights["t_embedding_norm.weight"].shape[0], crossattn_emb_channels=config["text_embed_dim"], pos_emb_cls="rope3d", pos_emb_learnable=True,
        use_adaln_lora=True, adaln_lora_dim=config["adaln_lora_dim"], num_blocks=2, num_heads=config["num_attention_heads"], rope_h_extrapolation_ratio=4.0,
        rope_w_extrapolation_ratio=4.0, rope_enable_fps_modulation=False, **COMMON,
    )  # fmt: skip

    def call(given: dict):
        if "words" in given:
            return model.preprocess_text_embeds(given["words"], given["word_ids"].long(), t5xxl_weights=given["word_weights"])
        return model(given["sample"], given["timestep"], given["encoder_hidden_states"])

    return model, call


def guided(given: dict) -> dict:
    """Guides as ComfyUI's nodes give them: places of all cells of the last frame, and a mask that takes some of them away."""
    if "guide_places" not in given:
        return {}
    sample = given["sample"]
    batch, each = len(sample), sample.shape[3:].numel()
    mask = torch.full((batch, 1, sample.shape[2:].numel()), -1.0)
    mask[:, :, given["kept_cells"][0].long()] = 1.0
    places = torch.zeros(batch, 3, each, 2)
    places[:, :, ::2] = given["guide_places"]
    entry = {
        "pre_filter_count": each,
        "strength": float(given["guide_weights"][0, 0]),
        "pixel_mask": None,
        "latent_shape": [1, *sample.shape[3:]],
    }
    return {"keyframe_idxs": places, "denoise_mask": mask.reshape(batch, 1, *sample.shape[2:]), "guide_attention_entries": [entry]}


def ltxv(config: dict, weights: dict):
    from comfy.ldm.lightricks.model import LTXVModel

    model = LTXVModel(
        in_channels=128, cross_attention_dim=config["cross_attention_dim"], attention_head_dim=config["attention_head_dim"], num_layers=2,
        caption_channels=config["caption_channels"], **COMMON,
    )  # fmt: skip

    def call(given: dict):
        model.causal_temporal_positioning = bool(given.get("causal", torch.zeros(1))[0])
        model.use_middle_indices_grid = bool(given.get("middle", torch.zeros(1))[0])
        mask = given["attention_mask"].long() if "attention_mask" in given else None
        times = given["token_timesteps"][..., None] if "token_timesteps" in given else given["timestep"]
        return model(
            given["sample"], times, given["encoder_hidden_states"], mask, frame_rate=float(given["frame_rate"][0]), **guided(given)
        )

    return model, call


def ltx2(config: dict, weights: dict):
    from comfy.ldm.lightricks import av_model
    from comfy.ldm.lightricks.model import LTXRopeType, generate_freq_grid_np, generate_freq_grid_pytorch

    heads = {
        f"{name}connector_num_attention_heads": weights[f"{stem}_embeddings_connector.learnable_registers"].shape[1] // 128
        for name, stem in (("", "video"), ("audio_", "audio"))
    }
    later = not config["use_prompt_embeddings"]
    model = av_model.LTXAVModel(
        cross_attention_dim=config["cross_attention_dim"], audio_cross_attention_dim=config["audio_cross_attention_dim"], attention_head_dim=config["attention_head_dim"],
        audio_attention_head_dim=config["audio_attention_head_dim"], caption_channels=config["caption_channels"], num_layers=2, apply_gated_attention=config["gated_attn"],
        caption_proj_before_connector=later, caption_projection_first_linear=False, cross_attention_adaln=config["cross_attn_mod"], ff_bias=config["ff_bias"],
        audio_ff_bias=config["audio_ff_bias"], use_prompt_adaln_single=config["use_prompt_adaln_single"], connector_apply_gated_attention=later,
        use_keyframes_abs_pos_embedding=config["use_keyframes_abs_pos_embedding"], **heads, **COMMON,
    )  # fmt: skip

    def call(given: dict):
        """One row at a time: the gates between the streams go by the largest time of all rows."""
        if "words" in given:
            return model.preprocess_text_embeds(given["words"], unprocessed=True)
        setting = {name: given.get(name, torch.zeros(1))[0] > 0.5 for name in ("causal", "middle", "halves", "precise")}
        model.causal_temporal_positioning, model.use_middle_indices_grid = bool(setting["causal"]), bool(setting["middle"])
        model.split_positional_embedding = LTXRopeType.SPLIT if setting["halves"] else LTXRopeType.INTERLEAVED
        model.freq_grid_generator = generate_freq_grid_np if setting["precise"] else generate_freq_grid_pytorch
        model.av_ca_timestep_scale_multiplier = float(given.get("gate_scale", torch.ones(1))[0])
        rows = []
        for row in range(len(given["sample"])):
            one = {name: value[row : row + 1] if len(value) > 1 else value for name, value in given.items()}
            mask = one["attention_mask"].long() if "attention_mask" in one else None
            times = one["token_timesteps"][..., None] if "token_timesteps" in one else one["timestep"]
            audio = (
                one["audio_token_timesteps"][..., None] if "audio_token_timesteps" in one else one.get("audio_timestep", one["timestep"])
            )
            streams = [one[name] for name in ("sample", "audio_sample") if name in one]
            out = model(streams, (times, audio), one["encoder_hidden_states"], mask, frame_rate=float(one["frame_rate"][0]), **guided(one))
            rows.append(torch.cat([stream.flatten(1) for stream in (out if isinstance(out, list) else [out])], dim=1))
        return torch.cat(rows)

    return model, call


def minimax_h3(config: dict, weights: dict):
    from comfy.ldm.minimax.model import MiniMaxH3Model

    table = weights.get("adaln_t_table")
    model = MiniMaxH3Model(
        hidden_size=config["hidden_size"], num_layers=2, token_refiner_num_layers=2, num_attention_heads=config["num_attention_heads"],
        attention_head_dim=config["attention_head_dim"], ffn_hidden_size=config["ffn_dim"], text_dim=config["text_dim"], time_embed_dim=config["time_embed_dim"],
        time_embed_hidden_size=config.get("time_embed_hidden_dim"), rope_inv_freq_len=config["rope_freq_dim"], adaln_curve_grid=None if table is None else len(table), **COMMON,
    )  # fmt: skip
    # A file holds frequencies, not random numbers.
    weights["rope.inv_freq"] = 10000.0 ** -(torch.arange(config["rope_freq_dim"]) / config["rope_freq_dim"])

    def call(given: dict):
        """One row at a time: more are not possible there."""
        if "words" in given:
            return model.preprocess_text_embeds(given["words"])
        rows = []
        for row in range(len(given["sample"])):
            one = {name: value[row : row + 1] for name, value in given.items()}
            payload, options = {}, {}
            if "word_kinds" in given:
                payload = {"text_token_tags": given["word_kinds"].long(), "audio_scale": float(given["audio_scale"][0])}
                options = {f"minimax_h3_sigma_shift_{name}": float(given[f"shift_{name}"][0]) for name in ("video", "audio")}
            out = model([one["sample"], one["audio_sample"]], one["timestep"], one["encoder_hidden_states"], options, payload)
            rows.append(torch.cat([stream.flatten(1) for stream in out], dim=1))
        return torch.cat(rows)

    return model, call


def hunyuan_video(config: dict, weights: dict):
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    newer, patch = "vision_in.proj.0.weight" in weights, list(weights["img_in.proj.weight"].shape[2:])
    model = HunyuanVideo(
        image_model="hunyuan_video", in_channels=config["in_channels"], out_channels=config["out_channels"], patch_size=patch, vec_in_dim=config.get("pooled_projection_dim"),
        axes_dim=list(config["rope_axes_dim"]), meanflow=False, meanflow_sum=newer, context_in_dim=config["text_embed_dim"], hidden_size=weights["img_in.proj.weight"].shape[0],
        mlp_ratio=4.0, num_heads=config["num_attention_heads"], depth=2, depth_single_blocks=config.get("num_single_layers", 0), theta=256, qkv_bias=True, byt5=newer,
        guidance_embed=not newer, use_cond_type_embedding=newer, vision_in_dim=config.get("image_embed_dim"), **COMMON,
    )  # fmt: skip

    def call(given: dict):
        """One row at a time: a mask of several is not possible there, and none beside letters or a picture."""
        rows = []
        for row in range(len(given["sample"])):
            one = {name: value[row : row + 1] for name, value in given.items()}
            mask = one["attention_mask"].long() if "attention_mask" in one else None
            rows.append(model(one["sample"], one["timestep"], one["encoder_hidden_states"], one.get("y"), one.get("letters"),
                              one.get("encoder_hidden_states_image"), one.get("guidance"), mask))  # fmt: skip
        return torch.cat(rows)

    return model, call


def kandinsky5(config: dict, weights: dict):
    from comfy.ldm.kandinsky5.model import Kandinsky5

    model = Kandinsky5(
        in_text_dim=config["in_text_dim"], in_text_dim2=config["in_text_dim2"], time_dim=config["time_dim"], model_dim=config["model_dim"], ff_dim=config["ff_dim"],
        num_text_blocks=2, num_visual_blocks=2, visual_embed_dim=weights["visual_embeddings.in_layer.weight"].shape[1], axes_dims=config["axes_dims"],
        rope_scale_factor=(1.0, 2.0, 2.0) if config["visual_cond"] else (1.0, 1.0, 1.0), **COMMON,
    )  # fmt: skip
    return model, lambda given: model(
        given["sample"].clone(), given["timestep"], given["encoder_hidden_states"], given["y"], given.get("first_frames")
    )[..., : given["sample"].shape[-2], : given["sample"].shape[-1]]


def ernie_image(config: dict, weights: dict):
    from comfy.ldm.ernie.model import ErnieImageModel

    names = ("hidden_size", "num_attention_heads", "ffn_hidden_size", "text_in_dim")
    model = ErnieImageModel(num_layers=2, **{name: config[name] for name in names}, **COMMON)
    return model, lambda given: model(given["sample"], given["timestep"], given["encoder_hidden_states"])


def hidream(config: dict, weights: dict):
    from comfy.ldm.hidream.model import HiDreamImageTransformer2DModel

    model = HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=128, num_attention_heads=config["num_attention_heads"],
        caption_channels=config["caption_channels"], text_emb_dim=config["text_emb_dim"], axes_dims_rope=[64, 32, 32], llama_layers=config["llama_layers"], **COMMON,
    )  # fmt: skip
    return model, lambda given: model(
        given["sample"], given["timestep"], given["y"], given["encoder_hidden_states"], given["encoder_hidden_states_layers"]
    )


def sd3(config: dict, weights: dict):
    from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper

    width, words = weights["context_embedder.weight"].shape
    model = OpenAISignatureMMDITWrapper(
        in_channels=16, out_channels=16, patch_size=2, depth=width // 64, input_size=None, adm_in_channels=config["pooled_projection_dim"],
        pos_embed_max_size=config["pos_embed_max_size"], num_patches=weights["pos_embed"].shape[1], pos_embed_scaling_factor=None,
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": words, "out_features": width}},
        qk_norm="rms" if config["qk_norm"] else None, x_block_self_attn_layers=list(config["dual_attention_layers"]), **COMMON,
    )  # fmt: skip
    blocks = width // 64 - 1

    def call(given: dict):
        added = [given[f"block_controls_{number}"] for number in range(blocks) if f"block_controls_{number}" in given]
        control = {"output": [*added, given["last_control"]]} if added else None
        return model(given["sample"], given["timestep"], given["encoder_hidden_states"], given["y"], control)

    return model, call


MAKERS = {
    "sd3": sd3,
    "hidream": hidream,
    "ernie-image": ernie_image,
    "kandinsky5": kandinsky5,
    "hunyuan-video": hunyuan_video,
    "hunyuan-video-1.5": hunyuan_video,
    "ltxv": ltxv,
    "ltx2": ltx2,
    "minimax-h3": minimax_h3,
    "anima": anima,
    "chroma": chroma,
    "wan": wan,
    "flux": flux,
    "z-image": next_dit,
    "lumina2": next_dit,
    "qwen-image": qwen_image,
    "flux2": flux2,
    "krea2": krea2,
}


def main() -> None:
    torch.set_grad_enabled(False)
    given = torch.load(FILE)
    model, call = MAKERS[given["family"]](given["config"], given["weights"])
    # ComfyUI calls norms so while it loads.
    weights = {name.replace("_norm.scale", "_norm.weight"): value for name, value in given["weights"].items()}
    missing, unknown = model.load_state_dict(weights, strict=False)
    assert not missing and not unknown, (missing, unknown)
    model.requires_grad_(False)
    torch.save([call(step) for step in given["steps"]], FILE.replace(".pt", ".out.pt"))


main()
