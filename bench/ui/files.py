"""Writes the files of the benchmark: two checkpoints, adapters and a ControlNet with random weights. Run with ComfyUI's own Python.

    COMFYUI_DIR=... python -m bench.ui.files FOLDER --size real|flux|z-image|tiny

"real" is SDXL in ComfyUI's key layout (UNet 2,567 M parameters, fp16; no text encoder: the workflows bring random conditioning). "flux" (Flux dev, 11,901 M parameters)
and "z-image" (6,155 M) are files of diffusion_models in bf16. "tiny" is the SD 1.5 of the plugin's tests, for a CPU. A file that exists stays.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .workflows import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "model.diffusion_model."
# Name -> (kind, rank, seed)
ADAPTERS = {
    **{name: ("lora", 16, 11 + index) for index, name in enumerate("abcdefgh")},
    "wide": ("lora", 128, 31),
    "wide2": ("lora", 128, 32),
    "loha": ("loha", 8, 41),
    "loha2": ("loha", 8, 42),
}
LAYERS = (".transformer_blocks.", ".proj_in.", ".proj_out.", "double_blocks.", "single_blocks.", ".layers.", "_refiner.")


def save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, partial)
    os.replace(partial, path)


def value(name: str, shape: tuple[int, ...], make: torch.Generator, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """Scaled so that activations stay finite through the network, as trained weights do."""
    noise = torch.randn(shape, generator=make, device=make.device)
    if len(shape) < 2:
        return ((1.0 if name.endswith(("weight", ".scale")) else 0.0) + 0.02 * noise).to(dtype)
    return (noise * (0.7 / torch.Size(shape[1:]).numel() ** 0.5)).to(dtype)


def autoencoder() -> dict[str, torch.Tensor]:
    """A small one, so that ComfyUI's loader finds what it expects."""
    from comfy.taesd.taesd import TAESD

    parts = {name: one for name, one in TAESD().state_dict().items() if name.startswith(("taesd_encoder.", "taesd_decoder."))}
    return {f"first_stage_model.{name}": one.half() for name, one in parts.items()}


def shapes_of(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(checkpoint, "pt") as file:
        names = [name for name in file.keys() if not name.startswith("first_stage_model.")]
        return {name.removeprefix(PREFIX): tuple(file.get_slice(name).get_shape()) for name in names}


def adapter(kind: str, rank: int, seed: int, shapes: dict[str, tuple[int, ...]], device: str) -> dict[str, torch.Tensor]:
    """In kohya's spelling, on every matrix of the transformer blocks (SDXL: 722 layers)."""
    make = torch.Generator(device).manual_seed(seed)
    out: dict[str, torch.Tensor] = {}

    def noise(rows: int, columns: int, scale: float) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=make, device=device) * scale).half()

    for name, shape in shapes.items():
        if (
            len(shape) != 2
            or not name.endswith(".weight")
            or not any(part in f".{name}" for part in LAYERS)
            or "mod" in name.split("blocks.")[-1]
        ):
            continue
        stem, (rows, columns) = "lora_unet_" + name.removesuffix(".weight").replace(".", "_"), shape
        narrow = 0.7 / columns**0.5
        if kind == "lora":
            out[f"{stem}.lora_up.weight"], out[f"{stem}.lora_down.weight"] = noise(rows, rank, 0.02), noise(rank, columns, narrow)
        else:
            for part in ("w1", "w2"):
                out[f"{stem}.hada_{part}_a"], out[f"{stem}.hada_{part}_b"] = noise(rows, rank, 0.2), noise(rank, columns, narrow**0.5)
        out[f"{stem}.alpha"] = torch.tensor(float(rank) / 2)
    return out


def control_net(seed: int, device: str) -> dict[str, torch.Tensor]:
    """SDXL's, as ControlNet files for ComfyUI spell it."""
    import comfy.ops
    from comfy.cldm.cldm import ControlNet

    with torch.device("meta"):
        model = ControlNet(
            image_size=32, in_channels=4, hint_channels=3, model_channels=320, num_res_blocks=[2, 2, 2], channel_mult=[1, 2, 4],
            num_head_channels=64, use_spatial_transformer=True, context_dim=2048, transformer_depth=[0, 0, 2, 2, 10, 10],
            transformer_depth_middle=10, use_linear_in_transformer=True, adm_in_channels=2816, num_classes="sequential", legacy=False,
            dtype=torch.float16, operations=comfy.ops.disable_weight_init,
        )  # fmt: skip
    make = torch.Generator(device).manual_seed(seed)
    tensors = {name: value(name, tuple(one.shape), make) for name, one in model.state_dict().items()}
    for name in tensors:
        # The convolutions that a trained ControlNet starts from zero.
        if name.startswith(("zero_convs", "middle_block_out")):
            tensors[name] *= 0.05
    return {f"control_model.{name}": one for name, one in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ui.files", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=tuple(SETTINGS), default="real")
    given = parser.parse_args()
    # ComfyUI reads the command line when it is imported.
    sys.argv = [sys.argv[0], "--cpu"]
    sys.path.insert(0, os.environ["COMFYUI_DIR"])
    import comfy.options

    comfy.options.enable_args_parsing()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    real = given.size == "real"
    header = SETTINGS[given.size].header
    folder, names = ("diffusion_models", ("base",)) if header else ("checkpoints", ("base", "other"))
    for index, name in enumerate(names):
        path = given.folder / folder / f"{name}.safetensors"
        if path.exists():
            continue
        if header:
            with gzip.open(ROOT / "test" / "golden" / "headers" / f"{header}.json.gz", "rt", encoding="utf-8") as file:
                shapes = {key: tuple(shape) for key, shape in json.load(file).items()}
            make = torch.Generator(device).manual_seed(1)
            save(path, {key: value(key, shape, make, torch.bfloat16) for key, shape in shapes.items()})
            continue
        if real:
            with gzip.open(ROOT / "bench" / "gpu" / "sdxl-shapes.json.gz", "rt", encoding="utf-8") as file:
                shapes = {key: tuple(shape) for key, shape in json.load(file).items()}
            make = torch.Generator(device).manual_seed(index + 1)
            tensors = {PREFIX + key: value(key, shape, make) for key, shape in shapes.items()}
        else:
            sys.path.insert(0, str(ROOT / "test/python/plugin/ui/comfyui"))
            from tiny_checkpoints import SD15, unet_tensors

            tensors = unet_tensors(SD15, index + 1)
        save(path, {**tensors, **autoencoder()})
    shapes = shapes_of(given.folder / folder / f"{names[0]}.safetensors")
    for name, (kind, rank, seed) in ADAPTERS.items():
        path = given.folder / "loras" / f"{name}.safetensors"
        if not path.exists() and (kind == "lora" or not header):
            save(path, adapter(kind, max(2, rank // 4) if given.size == "tiny" else rank, seed, shapes, device))
    path = given.folder / "controlnet" / "control.safetensors"
    if real and not path.exists():
        save(path, control_net(51, device))


if __name__ == "__main__":
    main()
