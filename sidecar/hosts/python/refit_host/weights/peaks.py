"""Largest magnitudes, which prove cheaply that a merge stays finite: |W| + sum(|strength * scale| * rank * max|up| * max|down|)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..failure import HostFailure
from .layout import Layout, Slot


def peak(value: Tensor) -> Tensor:
    """max |value| as a 0-d f32 tensor on the value's device; NaN when any value is NaN."""
    if value.numel() == 0:
        return torch.zeros((), device=value.device)
    low, high = torch.aminmax(value)
    return torch.maximum(-low, high).float()


class Peaks:
    """Peaks of a checkpoint's parameters in engine dtype, gathered while they stream by."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._found: dict[int, Tensor] = {}

    def note(self, slot: Slot, value: Tensor) -> None:
        self._found[slot.index] = peak(value)

    def finish(self) -> np.ndarray:
        """f32 per slot. Raises HOST_NON_FINITE naming the first parameter that holds NaN or infinity."""
        out = np.zeros(len(self._layout.slots), np.float32)
        if self._found:
            out[list(self._found)] = torch.stack(list(self._found.values())).cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(out))
        if len(bad):
            slot = self._layout.slots[int(bad[0])]
            raise HostFailure(
                "HOST_NON_FINITE", f"{slot.name}: the checkpoint holds NaN or infinity in {slot.dtype}; choose another checkpoint or precision",
                {"parameter": slot.name},
            )  # fmt: skip
        return out


def finite_limit(dtype: torch.dtype) -> float:
    """Below this a sum in f32 rounds to a finite value of `dtype`; a little under the largest, for the roundings on the way."""
    return float(torch.finfo(dtype).max) * (1 - 2.0**-6)
