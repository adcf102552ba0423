"""Writes tiny random checkpoints and adapters for the plugin's tests; run with ComfyUI's Python.

    COMFYUI_DIR=... python test/plugin/tiny_checkpoints.py OUT_DIR [name ...]

Checkpoints are made of ComfyUI's own classes, so that its detection and loaders accept them; only sizes that detection leaves free are small.
Writes `checkpoints/<name>.safetensors` and `loras/*.safetensors` under OUT_DIR, every file through a temporary name.
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
from tiny_parts import PREFIX, SD15, adapter, fill, layers, save  # noqa: E402

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


if __name__ == "__main__":
    write(Path(ARGUMENTS[0]), ARGUMENTS[1:] or ["sd15_tiny", "sd15_other"])
