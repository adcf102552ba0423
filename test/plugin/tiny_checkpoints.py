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
from safetensors.torch import save_file  # noqa: E402

PREFIX = "model.diffusion_model."

# Keys of the two UNet dictionaries are arguments of ComfyUI's UNetModel; sizes per row are those that its detection does not fix.
_SD15 = dict(
    image_size=32,
    in_channels=4,
    out_channels=4,
    model_channels=320,
    num_heads=8,
    use_spatial_transformer=True,
    context_dim=768,
    legacy=False,
    num_res_blocks=[1, 1],
    channel_mult=[1, 1],
    transformer_depth=[1, 0],
    transformer_depth_output=[1, 1, 0, 0],
    transformer_depth_middle=1,
)
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
    "sd15_tiny": (_SD15, 1),
    "sd15_other": (_SD15, 2),
    "sd15_inpaint": ({**_SD15, "in_channels": 9}, 3),
    "vega_tiny": (_SDXL, 4),
}


def fill(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random values (std 0.02), norm weights 1, biases small: outputs are finite and depend on every layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim > 1:
                value.normal_(0.0, 0.02, generator=generator)
            elif name.endswith("weight"):
                value.fill_(1.0)
            else:
                value.normal_(0.0, 0.01, generator=generator)
    return module


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


def save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, str(partial))
    os.replace(partial, path)


def layers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that adapters usually touch: attention, feed-forward and the convolutions of the residual blocks."""
    wanted = (
        ".to_q.weight",
        ".to_k.weight",
        ".to_v.weight",
        ".to_out.0.weight",
        ".ff.net.2.weight",
        ".proj_in.weight",
        ".in_layers.2.weight",
        ".out_layers.3.weight",
    )
    return {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX) and key.endswith(wanted)}


def adapter(kind: str, targets: dict[str, torch.Tensor], seed: int, scale: float = 0.05, rank: int = 4) -> dict[str, torch.Tensor]:
    """One adapter of `kind` (lora, loha, lokr, diff) on every target, in the spelling that names layers by their own parameter names."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * scale).half()

    out: dict[str, torch.Tensor] = {}
    for name, value in targets.items():
        stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        rows, columns, kernel = value.shape[0], value.shape[1], tuple(value.shape[2:])
        flat = columns * (kernel[0] * kernel[1] if kernel else 1)
        if kind == "lora":
            out[f"{stem}.lora_up.weight"] = noise(rows, rank, *([1] * len(kernel)))
            out[f"{stem}.lora_down.weight"] = noise(rank, columns, *kernel)
            out[f"{stem}.alpha"] = torch.tensor(float(rank) / 2)
        elif kind == "loha":
            for part, shape in (("w1_a", (rows, rank)), ("w1_b", (rank, flat)), ("w2_a", (rows, rank)), ("w2_b", (rank, flat))):
                out[f"{stem}.hada_{part}"] = noise(*shape) * 4
            out[f"{stem}.alpha"] = torch.tensor(float(rank))
        elif kind == "lokr":
            out[f"{stem}.lokr_w1"] = noise(2, 2)
            out[f"{stem}.lokr_w2"] = noise(rows // 2, columns // 2, *kernel)
            out[f"{stem}.alpha"] = torch.tensor(float(rank))
        elif kind == "diff":
            out[f"{stem}.diff"] = noise(*value.shape) * 0.05
        else:
            raise ValueError(f"unknown kind {kind!r}")
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
