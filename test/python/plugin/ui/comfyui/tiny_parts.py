"""What tiny random checkpoints and adapters are made of, for any UI's own model classes."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save_file

PREFIX = "model.diffusion_model."

# Arguments of the UIs' UNet class; sizes per row are those that their detection of SD 1.5 does not fix.
SD15 = dict(
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
        for value in module.buffers():
            # SD3's position table: made without values, read from the file.
            if value.is_floating_point():
                value.normal_(0.0, 0.02, generator=generator)
    return module


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


def adapter_by_name(layers: dict[str, tuple[int, int]], seed: int, scale: float = 0.05, rank: int = 4) -> dict[str, torch.Tensor]:
    """A LoRA as peft writes it: layers by their names in diffusers, with their rows and columns."""
    generator = torch.Generator().manual_seed(seed)
    out: dict[str, torch.Tensor] = {}
    for name, (rows, columns) in layers.items():
        out[f"transformer.{name}.lora_A.weight"] = (torch.randn(rank, columns, generator=generator) * scale).half()
        out[f"transformer.{name}.lora_B.weight"] = (torch.randn(rows, rank, generator=generator) * scale).half()
    return out
