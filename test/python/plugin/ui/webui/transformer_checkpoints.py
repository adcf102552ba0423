"""Writes narrow random files of Flux dev, Flux schnell and SD3, and what Forge loads beside them; run with Forge's Python.

    FORGE_DIR=... python test/python/plugin/ui/webui/transformer_checkpoints.py OUT_DIR

Forge takes the VAE in its full size. Other sizes it assumes to be the published ones; `narrow_models.py` of the test extension reads them off these files.
Under OUT_DIR: `Stable-diffusion/{flux,schnell,sd3}.safetensors`, `VAE/ae.safetensors`, `text_encoder/{clip_l,clip_g,t5}.safetensors` and LoRAs in `Lora`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FORGE = Path(os.environ["FORGE_DIR"])
sys.argv, OUT = [sys.argv[0], "--always-cpu"], Path(sys.argv[1])
PARTS = Path(__file__).resolve().parents[1] / "comfyui"
sys.path[1:1] = [str(PARTS), str(FORGE), str(FORGE / "repositories" / "huggingface_guess"), str(FORGE / "packages_3rdparty")]

import torch  # noqa: E402
from backend.nn.flux import IntegratedFluxTransformer2DModel  # noqa: E402
from backend.nn.mmditx import MMDiTX  # noqa: E402
from backend.nn.t5 import IntegratedT5  # noqa: E402
from backend.nn.vae import IntegratedAutoencoderKL  # noqa: E402
from backend.utils import read_arbitrary_config  # noqa: E402
from tiny_parts import adapter, adapter_by_name, fill, save  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModelWithProjection  # noqa: E402

CONFIGS = FORGE / "backend" / "huggingface"
FLUX_CONFIGS = CONFIGS / "black-forest-labs" / "FLUX.1-dev"
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


def main() -> None:
    flux = halves(fill(IntegratedFluxTransformer2DModel(**FLUX), 31))
    schnell = {key: value for key, value in flux.items() if not key.startswith("guidance_in.")}
    sd3 = halves(fill(MMDiTX(**SD3), 21))
    # One of each spelling: a diffusion model alone, and a whole checkpoint's prefix.
    save(OUT / "Stable-diffusion" / "flux.safetensors", flux)
    save(OUT / "Stable-diffusion" / "schnell.safetensors", schnell)
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
