"""Factors of adapters on the device. Those used last stay there while memory is ample: changing a strength, or going back to an adapter, uploads nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Callable

import torch
from torch import Tensor

# An SDXL adapter of rank 16 has 170 MB (f32) or 85 MB (f16). On a large card more is kept: one of its memory's KEPT_SHARE parts.
KEPT_BYTES = 512 << 20
KEPT_SHARE = 16
# Nothing is kept unless this much stays free: a step of a new size, or another program, comes first.
SPARE_BYTES = 2 << 30


def kept_on(device: torch.device) -> int:
    """Bytes of factors that stay on this device at most."""
    if device.type != "cuda":
        return KEPT_BYTES
    return max(KEPT_BYTES, torch.cuda.get_device_properties(device).total_memory // KEPT_SHARE)


class FactorCache:
    """Thread-safe. `upload`: a copy on the device."""

    def __init__(self, upload: Callable[[Tensor], Tensor], kept_bytes: int = KEPT_BYTES) -> None:
        self._upload, self._kept_bytes = upload, kept_bytes
        # By the address of the source, which is held as well, so that no other can have it.
        self._held: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        # The most that was held since there was room for it.
        self._most = 0
        self._lock = threading.Lock()

    def get(self, source: Tensor, free: Callable[[], int] | None) -> Tensor:
        """`source` (uint8 in host memory, written no more) on the device; valid as long as it is referenced. `free`: device memory that could
        be allocated now, bytes; None: nothing is kept."""
        with self._lock:
            found = self._held.get(source.data_ptr())
            if found is not None:
                self._held.move_to_end(source.data_ptr())
                return found[1]
        grows = False
        keeps = source.numel() <= self._kept_bytes
        if free is not None and keeps:
            with self._lock:
                # What goes first is memory that the upload can take.
                while self.nbytes + source.numel() > self._kept_bytes:
                    self._held.popitem(last=False)
                grows = self.nbytes + source.numel() > self._most
        there = self._upload(source)
        # Asking the driver takes a while, so it is asked only for more than was held before.
        if free is None or not keeps or (grows and free() < SPARE_BYTES):
            return there
        with self._lock:
            self._held[source.data_ptr()] = (source, there)
            self._most = max(self._most, self.nbytes)
        return there

    @property
    def nbytes(self) -> int:
        return sum(there.numel() for _, there in self._held.values())

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self._most = 0
