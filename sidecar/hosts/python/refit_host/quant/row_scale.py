"""One f32 scale per row: what fp8 and int8 share. A scale is chosen so that a refit moves as few codes as it can."""

from __future__ import annotations

import torch
from torch import Tensor

# A row of zeros, or one whose scale would be no normal number, takes the smallest normal f32: its codes are zeros, or nearly so.
SMALLEST_SCALE = 2.0**-126
# A row that an adapter made smaller than this share of what it was is coded anew: the old scale would waste its codes.
SHRUNK = 0.5


def row_peaks(value: Tensor) -> Tensor:
    """f32 [rows, 1]: the largest magnitude of each row."""
    return value.float().abs().amax(dim=-1, keepdim=True)


def fresh_scales(peak: Tensor, limit: float) -> Tensor:
    """The largest magnitude over the largest code."""
    # Divided by a tensor: by a plain number, PyTorch multiplies with the reciprocal on CUDA, which rounds 1/448 once more.
    return (peak / torch.full_like(peak, limit)).clamp_min(SMALLEST_SCALE)


def kept_scales(peak: Tensor, limit: float, cover: float, base_scale: Tensor, base_peak: Tensor) -> Tensor:
    """The base's scale where the row still fits it, so that codes which the change does not reach stay as they are; else a fresh one. `cover`: the largest magnitude, in
    codes, that the largest code may stand for."""
    # A file's own codes may reach one further (-128).
    fits = (peak <= torch.maximum(base_scale * cover, base_peak)) & (peak >= SHRUNK * base_peak)
    return torch.where(fits, base_scale, fresh_scales(peak, limit))
