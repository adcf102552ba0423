"""Rounding up and down by chance, so that the mean of many values is right: the third way beside the nearest code and a branch. Nothing is swallowed; what comes instead is
noise of up to a step (ComfyUI rounds so when it patches a quantised weight).

The chance follows from the parameter's name, the adapters' content and their strengths: a stack gives the same codes whatever was there before it.
"""

from __future__ import annotations

import hashlib
from typing import Iterable

import torch
from torch import Tensor

# Of a chance: round this value to the nearest.
NEAREST = -1.0
# A quotient this near to a whole number is that number: it was a code before the division.
WHOLE = 1e-5


def chances(name: str, adapters: Iterable[tuple[str, float]], moved: Tensor) -> Tensor:
    """f32 in [0, 1) for each value of a parameter that a stack moves, NEAREST elsewhere. `adapters`: (SHA-256, strength) in order; `moved`: bool of the values' shape."""
    text = "|".join([name, *(f"{sha256}@{strength!r}" for sha256, strength in adapters)])
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    make = torch.Generator(moved.device).manual_seed(seed)
    chance = torch.rand(moved.shape, generator=make, device=moved.device)
    return torch.where(moved, chance, NEAREST)


def by_chance(steps: Tensor, nearest: Tensor, chance: Tensor) -> Tensor:
    """Whole numbers: magnitudes counted in `steps` between neighbouring codes, rounded up with the probability of what is over. `nearest`: the answer where there is no chance."""
    whole = (steps - steps.round()).abs() <= WHOLE * steps.abs().clamp_min(1.0)
    return torch.where((chance < 0) | whole, nearest, torch.floor(steps + chance))
