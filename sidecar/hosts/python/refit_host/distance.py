"""How far one output is from another."""

from __future__ import annotations

from torch import Tensor


def relative_error(got: Tensor, expected: Tensor) -> float:
    """||got - expected|| / ||expected||, in f64; NaN when `expected` is zero and `got` too."""
    wanted = expected.double()
    return float((got.double() - wanted).norm() / wanted.norm())
