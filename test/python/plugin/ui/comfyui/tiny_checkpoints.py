"""Writes tiny random checkpoints and adapters for the plugin's tests; run with ComfyUI's Python.

    COMFYUI_DIR=... python test/python/plugin/ui/comfyui/tiny_checkpoints.py OUT_DIR [name ...]

Checkpoints are made of ComfyUI's own classes, so that its detection and loaders accept them; only sizes that detection leaves free are small.
Writes `checkpoints/<name>.safetensors` or `diffusion_models/<name>.safetensors`, and `loras/*.safetensors`, under OUT_DIR, every file through a temporary name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.argv, ARGUMENTS = [sys.argv[0], "--cpu"], sys.argv[1:]
sys.path.insert(0, os.environ["COMFYUI_DIR"])

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import torch  # noqa: E402
from tiny_parts import PREFIX, SD15, adapter, adapter_by_name, fill, layers, save  # noqa: E402

# Arguments of ComfyUI's UNetModel; sizes per row are those that its detection does not fix.
_SDXL = dict(
    image_size=32,
    in_channels=4,
    out_channels=4,
    model_channels=320,
    num_heads=-1,
    num_head_channels=64,
    use_spatial_transformer=True,
    context_dim=2048,
    use_linear_in_transformer=True,
    adm_in_channels=2816,
    num_classes="sequential",
    legacy=False,
    num_res_blocks=[2, 2, 2],
    channel_mult=[1, 1, 1],
    transformer_depth=[0, 0, 1, 1, 2, 2],
    transformer_depth_output=[0, 0, 0, 1, 1, 1, 2, 2, 2],
    transformer_depth_middle=-1,
)
UNETS = {
    "sd15_tiny": (SD15, 1),
    "sd15_other": (SD15, 2),
    "sd15_inpaint": ({**SD15, "in_channels": 9}, 3),
    "vega_tiny": (_SDXL, 4),
}


def unet_tensors(settings: dict, seed: int) -> dict[str, torch.Tensor]:
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    model = UNetModel(**settings, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    return {PREFIX + key: value.half().contiguous() for key, value in fill(model, seed).state_dict().items()}


def vae_tensors() -> dict[str, torch.Tensor]:
    from comfy.taesd.taesd import TAESD

    out = {}
    for key, value in fill(TAESD(), 9).state_dict().items():
        if key.startswith(("taesd_encoder.", "taesd_decoder.")):
            out[f"first_stage_model.{key}"] = value.half().contiguous()
    return out


def write(out: Path, names: list[str]) -> None:
    vae = vae_tensors()
    for name in names:
        settings, seed = UNETS[name]
        tensors = unet_tensors(settings, seed)
        save(out / "checkpoints" / f"{name}.safetensors", {**tensors, **vae})
        if name == "vega_tiny":
            linear = {key: value for key, value in layers(tensors).items() if value.ndim == 2}
            save(out / "loras" / "vega.safetensors", adapter("lora", linear, 17))
        if name == "sd15_tiny":
            targets = layers(tensors)
            attention = {key: value for key, value in targets.items() if ".attn" in key}
            linear = {key: value for key, value in targets.items() if value.ndim == 2}
            save(out / "loras" / "style.safetensors", adapter("lora", targets, 11))
            save(out / "loras" / "sub dir" / "ünï style.safetensors", adapter("lora", attention, 12, rank=8))
            save(out / "loras" / "attention.safetensors", adapter("lora", attention, 16, rank=8))
            save(out / "loras" / "hada.safetensors", adapter("loha", linear, 13))
            save(out / "loras" / "kron.safetensors", adapter("lokr", targets, 14))
            save(out / "loras" / "full.safetensors", adapter("diff", attention, 15))
            twin = adapter("lora", targets, 11)
            key = next(key for key in twin if key.endswith("lora_up.weight"))
            twin[key] = twin[key] * -2
            save(out / "loras" / "style-twin.safetensors", twin)


# What detection reads off a Flux file: two blocks, 1 GB in fp16, because the width is fixed.
_FLUX = dict(
    in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072, mlp_ratio=4.0, num_heads=24, depth=1, depth_single_blocks=1,
    axes_dim=[16, 56, 56], theta=10000, qkv_bias=True, patch_size=2,
)  # fmt: skip
_SD3 = dict(
    in_channels=16, out_channels=16, patch_size=2, depth=2, input_size=None, adm_in_channels=2048, num_patches=64, pos_embed_max_size=8,
    context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}}, pos_embed_scaling_factor=None,
)  # fmt: skip


def transformers(out: Path, names: list[str]) -> None:
    """SD3 and Flux as diffusion-model files, with an adapter in the spelling of kohya and one in that of diffusers, whose q, k and v share one weight here."""
    import comfy.ops
    import comfy.utils

    operations = comfy.ops.disable_weight_init
    if "sd3_tiny" in names:
        from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper

        tensors = halves(fill(OpenAISignatureMMDITWrapper(**_SD3, dtype=torch.float32, device="cpu", operations=operations), 21))
        save(out / "diffusion_models" / "sd3_tiny.safetensors", tensors)
        spelled = comfy.utils.mmdit_to_diffusers({"depth": _SD3["depth"], "num_blocks": _SD3["depth"]}, "")
        save(out / "loras" / "sd3-diffusers.safetensors", adapter_by_name(split_layers(tensors, spelled), 22))
    if "flux_tiny" in names:
        from comfy.ldm.flux.model import Flux, FluxParams

        # ComfyUI 0.33 also wants to know which axes number the words; Flux.1 has none.
        more = {"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__dataclass_fields__ else {}
        tensors = halves(
            fill(
                Flux(image_model="flux", **_FLUX, **more, guidance_embed=True, dtype=torch.float32, device="cpu", operations=operations), 31
            )
        )
        save(out / "diffusion_models" / "flux_tiny.safetensors", tensors)
        save(
            out / "diffusion_models" / "schnell_tiny.safetensors",
            {key: value for key, value in tensors.items() if not key.startswith("guidance_in.")},
        )
        blocks = {key: value for key, value in tensors.items() if key.startswith(("double_blocks", "single_blocks")) and value.ndim == 2}
        save(out / "loras" / "flux-kohya.safetensors", adapter("lora", blocks, 33, scale=0.02))
        spelled = comfy.utils.flux_to_diffusers(_FLUX, "")
        split = split_layers(tensors, spelled)
        save(out / "loras" / "flux-diffusers.safetensors", adapter_by_name(split, 32, scale=0.02))
        # Names of two families in one file. Some mean the same weight, of which the later name counts.
        fused = {name: tuple(tensors[f"{weight}.weight"].shape) for name, weight in FLUX2_LAYERS.items()}
        save(out / "loras" / "flux-two-families.safetensors", adapter_by_name({**split, **fused}, 34, scale=0.02))


# What detection leaves free of a Wan; VACE is a class of ComfyUI's own that no engine serves.
_VACE = dict(dim=128, ffn_dim=256, num_heads=1, num_layers=1, in_dim=16, out_dim=16, vace_layers=1, vace_in_dim=96)


def vace(out: Path) -> None:
    import comfy.ops
    from comfy.ldm.wan.model import VaceWanModel

    model = VaceWanModel(**_VACE, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    save(out / "diffusion_models" / "vace_tiny.safetensors", halves(fill(model, 41)))


def control(out: Path) -> None:
    """A ControlNet of SD 1.5's structure, and a control LoRA: what such a net has beyond the UNet, which lends it the rest."""
    import comfy.ops
    from comfy.cldm.cldm import ControlNet

    settings = {key: value for key, value in SD15.items() if key not in ("out_channels", "transformer_depth_output")}
    net = ControlNet(**settings, hint_channels=3, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init)
    tensors = halves(fill(net, 51))
    save(out / "controlnet" / "sd15_control.safetensors", tensors)
    own = {key: value for key, value in tensors.items() if key.startswith(("input_hint_block.", "zero_convs.", "middle_block_out."))}
    save(out / "controlnet" / "sd15_control_lora.safetensors", {**own, "lora_controlnet": torch.zeros(1)})


def sd3_control(out: Path) -> None:
    """A ControlNet of sd3_tiny as Stability publishes them, which takes a part of the model's own weights; and an encoder for pictures of 16 channels."""
    import comfy.ops
    import comfy.utils
    from comfy.cldm.dit_embedder import ControlNetEmbedder
    from comfy.taesd.taesd import TAESD

    net = ControlNetEmbedder(
        img_size=None, patch_size=2, in_chans=16, num_layers=1, main_model_double=2, double_y_emb=True, attention_head_dim=64, num_attention_heads=2,
        adm_in_channels=2048, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    published = {own: name for own, name, *_ in comfy.utils.MMDIT_MAP_BASIC}
    tensors = {key: value for key, value in halves(fill(net, 52)).items() if not key.startswith("orig_y_embedder.")}
    save(out / "controlnet" / "sd3_stability.safetensors", {published.get(key, key): value for key, value in tensors.items()})
    encoder = {key: value for key, value in halves(fill(TAESD(latent_channels=16), 53)).items() if key.startswith("taesd_")}
    save(out / "vae" / "tae16.safetensors", encoder)


def halves(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.half().contiguous() for key, value in module.state_dict().items()}


FLUX2_LAYERS = {
    "transformer_blocks.0.ff.linear_in": "double_blocks.0.img_mlp.0",
    "transformer_blocks.0.ff_context.linear_out": "double_blocks.0.txt_mlp.2",
    "single_transformer_blocks.0.attn.to_qkv_mlp_proj": "single_blocks.0.linear1",
    "single_transformer_blocks.0.attn.to_out": "single_blocks.0.linear2",
}
OTHERS_LAYERS = ("to_qkv_mlp_proj", ".linear_in", ".linear_out", "attn.to_out.weight")


def split_layers(tensors: dict[str, torch.Tensor], spelled: dict[str, object]) -> dict[str, tuple[int, int]]:
    """Name in diffusers to (rows, columns) of the layers of the blocks, for names that stand for a whole weight or for rows of one."""
    out: dict[str, tuple[int, int]] = {}
    for name, target in spelled.items():
        # ComfyUI 0.33's map of Flux.1 has the names of Flux.2's layers, too: hardly a file of Flux.1 has both.
        if any(part in name for part in OTHERS_LAYERS):
            continue
        key, rows = (target, None) if isinstance(target, str) else (target[0], target[1])
        weight = tensors.get(key)
        if "blocks" in name and name.endswith(".weight") and weight is not None and weight.ndim == 2:
            out[name.removesuffix(".weight")] = (weight.shape[0] if rows is None else rows[2], weight.shape[1])
    return out


if __name__ == "__main__":
    folder, wanted = Path(ARGUMENTS[0]), ARGUMENTS[1:] or ["sd15_tiny", "sd15_other"]
    write(folder, [name for name in wanted if name in UNETS])
    transformers(folder, wanted)
    if "sd15_control" in wanted:
        control(folder)
    if "sd3_stability" in wanted:
        sd3_control(folder)
    if "vace_tiny" in wanted:
        vace(folder)
