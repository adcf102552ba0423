"""The simulated GPU: memory of its own, a capability, a library version. Set by SIM_* variables.

Memory counts as the device's when it was allocated with a device named (`torch.empty(…, device=…)`, as all of the host's device
memory is); any other address is the host's. So a host pointer passed as a device pointer is found out, as a real GPU would.
"""

from __future__ import annotations

import math
import os
import weakref
from typing import Any

import torch

CAPABILITY = tuple(int(part) for part in os.environ.get("SIM_CAPABILITY", "8.9").split("."))
VERSION = os.environ.get("SIM_VERSION", "1.7.1.116")
TOTAL_BYTES = int(os.environ.get("SIM_VRAM_MIB", "16384")) << 20
FAULTS = frozenset(filter(None, os.environ.get("SIM_FAULTS", "").split(",")))

_storages: list[weakref.ref[torch.UntypedStorage]] = []
_reserved = 0
_plain_empty = torch.empty


def _alive() -> list[torch.UntypedStorage]:
    """Blocks of the device. A storage's Python object lives as long as any tensor on it."""
    found = [storage for storage in (ref() for ref in _storages) if storage is not None]
    _storages[:] = [weakref.ref(storage) for storage in found]
    return found


def used_bytes() -> int:
    return _reserved + sum(storage.nbytes() for storage in _alive())


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
    return any(storage.data_ptr() <= address and address + nbytes <= storage.data_ptr() + storage.nbytes() for storage in _alive())


def _empty(*size: Any, **options: Any) -> torch.Tensor:
    device = options.get("device")
    if device is None or torch.device(device).type != "cpu":
        return _plain_empty(*size, **options)
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    nbytes = math.prod(shape) * (options.get("dtype") or torch.get_default_dtype()).itemsize
    if nbytes > free_bytes():
        raise torch.OutOfMemoryError(f"the simulated device has {free_bytes()} of {nbytes} bytes")
    tensor = _plain_empty(*size, **options)
    _storages.append(weakref.ref(tensor.untyped_storage()))
    return tensor


def install() -> None:
    """Makes torch's allocations visible here, and gives the host the simulated device's facts."""
    torch.empty = _empty
    from refit_tensorrt import device, profiles

    device.capability = lambda _: CAPABILITY
    device.name = lambda _: "simulated GPU"
    device.total_bytes = lambda _: TOTAL_BYTES
    # Engines are checked at the family's usual size; this device is a CPU.
    profiles.USUAL_SIDE = dict.fromkeys(profiles.USUAL_SIDE, 16)
    profiles.OTHER_SIDE = 16
