"""What was measured on: GPU, driver, versions, the two ceilings (copy bandwidth on the device and from the host), and what a call through the
pipes of a child process costs here: every figure of the whole host contains it.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from importlib import metadata
from typing import Iterator

import torch
from refit_host.host.tensors import to_wire
from refit_host.wire.frames import encode_frame, read_frame

from ..context import Context

# Answers each frame with its tensors, as small a host as can be.
ECHO = """
import sys
from refit_host.quick_start import answer_quickly
from refit_host.wire.frames import encode_frame, read_frame
answer_quickly()
while (frame := read_frame(sys.stdin.buffer)) is not None:
    message, tensors = frame
    for part in encode_frame({"result": {}}, "result" if tensors else None, tensors):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
"""


def _echo() -> Iterator[dict]:
    """A call without tensors, and one with the tensors of an SDXL step (batch 2, 1024 px) both ways."""
    child = subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    shapes = {"sample": (2, 4, 128, 128), "encoder_hidden_states": (2, 77, 2048), "y": (2, 2816)}
    step = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    for name, values in (("nothing", {}), ("the tensors of a step", step)):
        times = []
        for _ in range(60):
            began = time.perf_counter()
            for part in encode_frame({"params": {}}, "params" if values else None, [to_wire(key, value) for key, value in values.items()]):
                child.stdin.write(part)
            child.stdin.flush()
            read_frame(child.stdout)
            times.append((time.perf_counter() - began) * 1000)
        times = sorted(times[10:])
        yield {
            "what": "echo through pipes",
            "of": name,
            "median_ms": round(times[25], 3),
            "min_ms": round(times[0], 3),
            "p90_ms": round(times[45], 3),
        }
    child.stdin.close()
    child.wait(10)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def run(context: Context, options: dict) -> Iterator[dict]:
    yield {
        "what": "versions",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in ("triton", "diffusers", "peft", "safetensors")},
    }
    yield from _echo()
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
