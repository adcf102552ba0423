"""Which adapters are merged into a quantised matrix, and which stay a branch beside its product.

What decides is the share of a change that survives rounding to the nearest code. On values that lie on codes (a file that is quantised already) a change much smaller than a step
is swallowed; on any other base it moves as many values over a border as it should, so that all of it survives on average. The answer depends on base, adapter and strength alone,
never on what was merged before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping

import torch
from torch import Tensor

from .formats import Format

# Of an adapter's change, the share that may be swallowed where nobody says otherwise. A change of 0.4 steps (root of the mean square) keeps 0.92, of 0.3 steps 0.66, of 0.2
# steps 0.18: the limit lies where it falls off.
USUAL_LIMIT = 0.1
# Rows of a matrix that are looked at, and classes of steps: halves of a power of two.
ROWS, CLASSES = 64, 2


def survives(size: float) -> float:
    """<x, round(x)> / <x, x> of normal values x with a root mean square of `size` steps."""
    if size <= 0:
        return 0.0
    if size > 1.5:
        return 1.0
    total = sum(math.exp(-0.5 * ((k - 0.5) / size) ** 2) for k in range(1, math.ceil(6 * size + 1) + 1))
    return min(1.0, 2 / size * total / math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class Steps:
    """The steps between neighbouring codes of a matrix: size -> share of its values."""

    shares: Mapping[float, float]

    @staticmethod
    def of(form: Format, parts: Mapping[str, Tensor]) -> "Steps":
        """Of a matrix whose values are its codes."""
        rows = parts["codes"].shape[0]
        chosen = slice(0, rows, max(1, rows // ROWS))
        steps = form.steps({name: part[chosen] for name, part in parts.items()}).flatten()
        classes = torch.round(torch.log2(steps[steps > 0]) * CLASSES).to(torch.int32)
        values, counts = torch.unique(classes, return_counts=True)
        total = max(1, int(counts.sum()))
        return Steps({2.0 ** (value / CLASSES): count / total for value, count in zip(values.tolist(), counts.tolist())})

    def survives(self, rms: float) -> float:
        """Share of a change with this root mean square that is left after rounding."""
        return sum(share * survives(rms / size) for size, share in self.shares.items()) if self.shares else 1.0
