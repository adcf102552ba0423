"""What was measured on: GPU, driver, versions, and the two ceilings (copy bandwidth on the device and from the host)."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Iterator

import torch

from ..context import Context


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def run(context: Context, options: dict) -> Iterator[dict]:
    yield {"what": "versions", "python": platform.python_version(), "torch": torch.__version__,
           **{name: _version(name) for name in ("triton", "diffusers", "peft", "safetensors")}}
    if context.device.type != "cuda":
        return
    properties = torch.cuda.get_device_properties(context.device)
    yield {"what": "gpu", "name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1), "cuda": torch.version.cuda}
    size = 2 << 30
    a, b = (torch.ones(size, dtype=torch.uint8, device=context.device) for _ in range(2))
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    copy = context.wall(lambda: b.copy_(a))
    yield {"what": "device copy, read + write", "gb_per_s": round(2 * size / copy["median_ms"] / 1e6)}
    up = context.wall(lambda: a[: 1 << 28].copy_(host, non_blocking=True))
    yield {"what": "pinned host to device", "gb_per_s": round((1 << 28) / up["median_ms"] / 1e6)}
