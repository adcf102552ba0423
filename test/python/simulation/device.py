"""The simulated GPU: memory of its own, a capability, a library version. Set by SIM_* variables.

Memory counts as the device's when it was allocated with a device named (`torch.empty(…, device=…)`, as all of the host's device
memory is); any other address is the host's. So a host pointer passed as a device pointer is found out, as a real GPU would.
"""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import torch

CAPABILITY = tuple(int(part) for part in os.environ.get("SIM_CAPABILITY", "8.9").split("."))
VERSION = os.environ.get("SIM_VERSION", "1.7.1.116")
TOTAL_BYTES = int(os.environ.get("SIM_VRAM_MIB", "16384")) << 20
FAULTS = frozenset(filter(None, os.environ.get("SIM_FAULTS", "").split(",")))

_blocks: dict[int, tuple[int, int]] = {}
_reserved = 0
_plain_empty = torch.empty


class _Block(mmap.mmap):
    """One allocation: alive as long as a tensor looks at it."""

    def __del__(self) -> None:
        _blocks.pop(id(self), None)


def used_bytes() -> int:
    return _reserved + sum(size for _, size in _blocks.values())


def free_bytes() -> int:
    return max(0, TOTAL_BYTES - used_bytes())


def reserve(nbytes: int) -> bool:
    """Memory that the library takes for itself; negative: gives back. False when there is not enough."""
    global _reserved
    if nbytes > free_bytes():
        return False
    _reserved += nbytes
    return True


def is_device(address: int, nbytes: int) -> bool:
    return any(begin <= address and address + nbytes <= begin + size for begin, size in list(_blocks.values()))


def _empty(*size: Any, **options: Any) -> torch.Tensor:
    device = options.get("device")
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    if device is None or torch.device(device).type != "cpu" or math.prod(shape) == 0:
        return _plain_empty(*size, **options)
    dtype = options.get("dtype") or torch.get_default_dtype()
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > free_bytes():
        raise torch.OutOfMemoryError(f"the simulated device has {free_bytes()} of {nbytes} bytes")
    block = _Block(-1, nbytes)
    tensor = torch.frombuffer(block, dtype=dtype).view(shape)
    _blocks[id(block)] = (tensor.data_ptr(), nbytes)
    return tensor


def install() -> None:
    """Makes torch's allocations visible here, and gives the host the simulated device's facts."""
    torch.empty = _empty
    from refit_tensorrt import device

    device.capability = lambda _: CAPABILITY
    device.name = lambda _: "simulated GPU"
    device.total_bytes = lambda _: TOTAL_BYTES
