"""Random checkpoints and adapters of real size, as files: the host reads them exactly as it reads a user's."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Sequence

import torch
from refit_host.files import delta_checks
from refit_host.files.checkpoint import CheckpointSource
from refit_host.models.spec import Shapes
from safetensors.torch import save_file


def random_value(name: str, shape: tuple[int, ...], device: torch.device, make: torch.Generator) -> torch.Tensor:
    """Scaled so that activations stay finite through the whole network, as trained weights do."""
    if len(shape) < 2:
        centre = 1.0 if name.endswith(("weight", "scale")) else 0.0
        return centre + 0.02 * torch.randn(shape, device=device, generator=make)
    fan_in = 1
    for dim in shape[1:]:
        fan_in *= dim
    return torch.randn(shape, device=device, generator=make) * (0.7 / fan_in**0.5)


def checkpoint(folder: Path, shapes: Shapes, device: torch.device, seed: int) -> CheckpointSource:
    """fp16 file with canonical names; written once."""
    return CheckpointSource.parse(checkpoint_record(folder, shapes, device, seed))


def _piece(key: str, shape: Sequence[int]) -> dict:
    return {"file": 0, "key": key, "dtype": "F16", "start": 0, "length": shape[0] if shape else 1, "swapHalves": False}


def checkpoint_record(folder: Path, shapes: Shapes, device: torch.device, seed: int) -> dict:
    """The same as it travels to a host."""
    path = folder / f"checkpoint-{seed}.safetensors"
    if not path.exists():
        make = torch.Generator(device).manual_seed(1000 + seed)
        tensors = {name: random_value(name, shape, device, make).half().cpu() for name, shape in shapes.items()}
        partial = path.with_suffix(".part")
        save_file(tensors, partial)
        os.replace(partial, path)
    stat = path.stat()
    return {
        "files": [{"path": str(path), "sizeBytes": stat.st_size, "mtimeNs": str(stat.st_mtime_ns), "inode": str(stat.st_ino)}],
        "parameters": {name: {"shape": list(shape), "pieces": [_piece(name, shape)]} for name, shape in shapes.items()},
    }


def linear_layers(shapes: Shapes) -> list[str]:
    """The layers that adapters usually train: every matrix of the transformer blocks and their projections (SDXL 722, Flux 304)."""
    inside = (".transformer_blocks.", ".proj_in.", ".proj_out.", "double_blocks.", "single_blocks.")
    return [name for name, shape in shapes.items() if len(shape) >= 2 and any(part in name for part in inside)]


def adapter(
    folder: Path, shapes: Shapes, device: torch.device, seed: int, rank: int, *, layers: Sequence[str] | None = None, stem: str = "adapter"
) -> Path:
    """A delta file on `layers` (None: `linear_layers`); written once. Its effect on a weight is a few per cent of the weight, as in trained adapters."""
    path = folder / f"{stem}-{seed}-r{rank}.delta"
    if path.exists():
        return path
    make = torch.Generator(device).manual_seed(2000 + seed)
    tensors, terms = {}, []
    for name in linear_layers(shapes) if layers is None else layers:
        rows, cols = shapes[name][0], 1
        for dim in shapes[name][1:]:
            cols *= dim
        tensors[f"{name}.up"] = (torch.randn(rows, rank, device=device, generator=make) * 0.05).half().cpu()
        tensors[f"{name}.down"] = (torch.randn(rank, cols, device=device, generator=make) * (0.7 / cols**0.5)).half().cpu()
        terms.append(
            {"kind": "lowRank", "target": {"parameter": name}, "scale": 0.5, "up": f"{name}.up", "down": f"{name}.down", "sourceKeys": []}
        )
    record = {
        "formatVersion": 1,
        "adapter": f"{seed:064x}",
        "structure": "0" * 64,
        "family": "sdxl",
        "mode": "comfyui",
        "terms": terms,
        "report": {"used": [], "ignored": [], "failed": []},
        "bytes": 0,
    }
    text = json.dumps(record)
    checks = {name: (zlib.crc32(value.numpy().tobytes()), True) for name, value in tensors.items()}
    tensors[delta_checks.NAME] = torch.frombuffer(bytearray(delta_checks.encode_checks(checks, text)), dtype=torch.uint8)
    save_file(tensors, path, metadata={"refit_delta": text})
    return path
