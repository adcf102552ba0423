"""Writes narrow random files of Flux dev, Flux schnell, Chroma, SD3 and SDXL, and what Forge loads beside them; run with Forge's Python.

    FORGE_DIR=... python test/python/plugin/ui/webui/transformer_checkpoints.py OUT_DIR [sdxl | chroma]

Flux's are also written as quantised files: fp8 without scales, and fp8 and int8 layer by layer. With "sdxl" or "chroma", that one alone. Their blocks have
the published number, which detection or the class want.

Forge takes the VAE in its full size. Other sizes it assumes to be the published ones; `narrow_models.py` of the test extension reads them off these files.
Under OUT_DIR: `Stable-diffusion/{flux,schnell,chroma,sd3,sdxl}.safetensors`, `VAE/ae.safetensors`, `text_encoder/{clip_l,clip_g,t5}.safetensors` and LoRAs in `Lora`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

FORGE = Path(os.environ["FORGE_DIR"])
sys.argv, OUT, ONLY = [sys.argv[0], "--always-cpu"], Path(sys.argv[1]), sys.argv[2:]
PARTS = Path(__file__).resolve().parents[1] / "comfyui"
sys.path[1:1] = [str(PARTS), str(FORGE), str(FORGE / "repositories" / "huggingface_guess"), str(FORGE / "packages_3rdparty")]

import torch  # noqa: E402
from backend.nn.chroma import IntegratedChromaTransformer2DModel  # noqa: E402
from backend.nn.flux import IntegratedFluxTransformer2DModel  # noqa: E402
from backend.nn.mmditx import MMDiTX  # noqa: E402
from backend.nn.t5 import IntegratedT5  # noqa: E402
from backend.nn.unet import IntegratedUNet2DConditionModel  # noqa: E402
from backend.nn.vae import IntegratedAutoencoderKL  # noqa: E402
from backend.utils import read_arbitrary_config  # noqa: E402
from tiny_parts import adapter, adapter_by_name, fill, save  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModelWithProjection  # noqa: E402

CONFIGS = FORGE / "backend" / "huggingface"
FLUX_CONFIGS = CONFIGS / "black-forest-labs" / "FLUX.1-dev"
SDXL_CONFIGS = CONFIGS / "stabilityai" / "stable-diffusion-xl-base-1.0"
SD3_CONFIGS = CONFIGS / "stabilityai" / "stable-diffusion-3-medium-diffusers"
WIDTH, WORDS = 256, 128
FLUX = dict(
    in_channels=16, vec_in_dim=768, context_in_dim=WORDS, hidden_size=WIDTH, mlp_ratio=4.0, num_heads=WIDTH // 128, depth=2, depth_single_blocks=2,
    axes_dim=[16, 56, 56], theta=10000, qkv_bias=True, guidance_embed=True,
)  # fmt: skip
SD3 = dict(
    in_channels=16, out_channels=16, patch_size=2, depth=2, input_size=None, adm_in_channels=2048, num_patches=256, pos_embed_max_size=16,
    context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}}, pos_embed_scaling_factor=None,
)  # fmt: skip
# Forge takes fewer than seventeen tensors for no T5.
T5 = dict(d_model=WORDS, d_ff=2 * WORDS, num_heads=2, num_layers=2)


CHROMA = {
    name: FLUX[name] for name in ("in_channels", "context_in_dim", "hidden_size", "mlp_ratio", "num_heads", "axes_dim", "theta", "qkv_bias")
} | dict(vec_in_dim=0, depth=19, depth_single_blocks=38, guidance_out_dim=WIDTH, guidance_hidden_dim=WIDTH, guidance_n_layers=5)
# Blocks as published; every level as narrow as the first.
SDXL = dict(
    in_channels=4, out_channels=4, model_channels=320, num_heads=-1, num_head_channels=64, use_spatial_transformer=True, context_dim=2048,
    use_linear_in_transformer=True, adm_in_channels=2816, num_classes="sequential", num_res_blocks=[2, 2, 2], channel_mult=[1, 1, 1],
    transformer_depth=[0, 0, 2, 2, 10, 10], transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10,
)  # fmt: skip
# Format -> (its name in files, largest code, dtype of the codes).
QUANTISED = {"fp8": ("float8_e4m3fn", 448.0, torch.float8_e4m3fn), "int8": ("int8_tensorwise", 127.0, torch.int8)}


def halves(module: torch.nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    state = module.state_dict()
    return {key.removeprefix(prefix): value.half().contiguous() for key, value in state.items() if value.is_floating_point()}


def clip(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    config = CLIPTextConfig.from_pretrained(str(folder), num_hidden_layers=2)
    return halves(fill(CLIPTextModelWithProjection(config), seed))


def split_layers() -> dict[str, tuple[int, int]]:
    """Rows and columns of layers of Flux by their names in diffusers; on both kinds of blocks, several of them lie in one weight here."""
    names = ("to_q", "to_k", "to_v", "add_q_proj", "to_out.0")
    double = {f"transformer_blocks.{n}.attn.{name}": (WIDTH, WIDTH) for n in range(2) for name in names}
    single = {f"single_transformer_blocks.{n}.attn.{name}": (WIDTH, WIDTH) for n in range(2) for name in ("to_q", "to_v")}
    return {**double, **single, "single_transformer_blocks.1.proj_mlp": (4 * WIDTH, WIDTH)}


def blocks(tensors: dict[str, torch.Tensor], *stems: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if key.startswith(stems) and value.ndim == 2}


def layer_by_layer(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """The matrices of the blocks as codes with one scale each."""
    name, limit, dtype = QUANTISED[kind]
    out = dict(tensors)
    for key in blocks(tensors, "double_blocks", "single_blocks"):
        value = tensors[key].float()
        scale = value.abs().amax() / limit
        codes = (value / scale).round() if dtype is torch.int8 else value / scale
        stem, text = key.removesuffix("weight"), json.dumps({"format": name}).encode()
        out |= {
            key: codes.clamp(-limit, limit).to(dtype),
            f"{stem}weight_scale": scale,
            f"{stem}comfy_quant": torch.tensor(list(text), dtype=torch.uint8),
        }
    return out


RESBLOCK = {
    "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip


def open_clip(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A text encoder as SDXL's checkpoints have their second one."""
    out = {
        "positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "text_projection": tensors["text_projection.weight"].T.contiguous(),
        **{f"ln_final.{part}": tensors[f"text_model.final_layer_norm.{part}"] for part in ("weight", "bias")},
    }
    for number in range(2):
        own, theirs = f"transformer.resblocks.{number}.", f"text_model.encoder.layers.{number}."
        for part in ("weight", "bias"):
            out |= {f"{own}{to}.{part}": tensors[f"{theirs}{name}.{part}"] for name, to in RESBLOCK.items()}
            out[f"{own}attn.in_proj_{part}"] = torch.cat([tensors[f"{theirs}self_attn.{one}_proj.{part}"] for one in "qkv"])
    return out


def sdxl() -> None:
    tensors = halves(fill(IntegratedUNet2DConditionModel(**SDXL), 41))
    vae = IntegratedAutoencoderKL.from_config(IntegratedAutoencoderKL.load_config(str(SDXL_CONFIGS / "vae")))
    first, second = clip(SDXL_CONFIGS / "text_encoder", 10), clip(SDXL_CONFIGS / "text_encoder_2", 12)
    parts = {
        "model.diffusion_model.": tensors, "first_stage_model.": halves(fill(vae, 9)), "conditioner.embedders.1.model.": open_clip(second),
        "conditioner.embedders.0.transformer.": {key: value for key, value in first.items() if key != "text_projection.weight"},
    }  # fmt: skip
    save(
        OUT / "Stable-diffusion" / "sdxl.safetensors",
        {f"{prefix}{key}": value for prefix, part in parts.items() for key, value in part.items()},
    )
    attention = {key: value for key, value in tensors.items() if ".attn" in key and value.ndim == 2}
    save(OUT / "Lora" / "sdxl-kohya.safetensors", adapter("lora", attention, 42, scale=0.1))


def chroma() -> None:
    tensors = halves(fill(IntegratedChromaTransformer2DModel(**CHROMA), 51))
    save(OUT / "Stable-diffusion" / "chroma.safetensors", tensors)
    save(OUT / "Lora" / "chroma-kohya.safetensors", adapter("lora", blocks(tensors, "double_blocks", "single_blocks"), 52, scale=0.05))


def main() -> None:
    alone = {"sdxl": sdxl, "chroma": chroma}
    for name, make in alone.items():
        if not ONLY or name in ONLY:
            make()
    if ONLY:
        return
    flux = halves(fill(IntegratedFluxTransformer2DModel(**FLUX), 31))
    schnell = {key: value for key, value in flux.items() if not key.startswith("guidance_in.")}
    sd3 = halves(fill(MMDiTX(**SD3), 21))
    # One of each spelling: a diffusion model alone, and a whole checkpoint's prefix.
    save(OUT / "Stable-diffusion" / "flux.safetensors", flux)
    save(OUT / "Stable-diffusion" / "schnell.safetensors", schnell)
    matrices = blocks(flux, "double_blocks", "single_blocks")
    save(
        OUT / "Stable-diffusion" / "flux-fp8.safetensors",
        {**flux, **{key: value.to(torch.float8_e4m3fn) for key, value in matrices.items()}},
    )
    for kind in QUANTISED:
        save(OUT / "Stable-diffusion" / f"flux-{kind}-layers.safetensors", layer_by_layer(flux, kind))
    save(OUT / "Stable-diffusion" / "sd3.safetensors", {f"model.diffusion_model.{key}": value for key, value in sd3.items()})
    save(OUT / "Lora" / "flux-kohya.safetensors", adapter("lora", blocks(flux, "double_blocks", "single_blocks"), 33, scale=0.1))
    save(OUT / "Lora" / "flux-diffusers.safetensors", adapter_by_name(split_layers(), 32, scale=0.1))
    save(OUT / "Lora" / "sd3-kohya.safetensors", adapter("lora", blocks(sd3, "joint_blocks"), 34, scale=0.1))
    vae = IntegratedAutoencoderKL.from_config(IntegratedAutoencoderKL.load_config(str(FLUX_CONFIGS / "vae")))
    save(OUT / "VAE" / "ae.safetensors", halves(fill(vae, 9)))
    save(OUT / "text_encoder" / "clip_l.safetensors", clip(SD3_CONFIGS / "text_encoder", 10))
    save(OUT / "text_encoder" / "clip_g.safetensors", clip(SD3_CONFIGS / "text_encoder_2", 12))
    t5 = IntegratedT5({**read_arbitrary_config(str(FLUX_CONFIGS / "text_encoder_2")), **T5})
    save(OUT / "text_encoder" / "t5.safetensors", halves(fill(t5, 11), "transformer."))


if __name__ == "__main__":
    main()
