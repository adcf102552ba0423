"""fp8 (e4m3fn: 1 sign, 4 exponent, 3 mantissa bits, largest value 448) with one f32 scale per row (OCP 8-bit Floating Point, OFP8)."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

CODE = torch.float8_e4m3fn
LIMIT = 448.0
# A row of zeros, or one whose scale would be no normal number, takes the smallest normal f32: its codes are zeros, or nearly so.
SMALLEST_SCALE = 2.0**-126


def row_scales(value: Tensor) -> Tensor:
    """f32 [..., 1]: the largest magnitude of each row over the largest code."""
    peak = value.float().abs().amax(dim=-1, keepdim=True)
    # Divided by a tensor: by a plain number, PyTorch multiplies with the reciprocal on CUDA, which rounds 1/448 once more.
    return (peak / torch.full_like(peak, LIMIT)).clamp_min(SMALLEST_SCALE)


class Fp8:
    name = "fp8"
    # What torch._scaled_mm wants of both sizes.
    multiple = 16

    def parts(self, rows: int, cols: int) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
        return ("codes", (rows, cols), CODE), ("scale", (rows, 1), torch.float32)

    def encode(self, value: Tensor) -> dict[str, Tensor]:
        """`value`: finite [rows, cols]. The nearest code, ties to even; a row's relative error is at most 1/16 of each value
        above 2^-6 of its largest."""
        scale = row_scales(value)
        # The quotient may exceed 448 by a rounding; clamped, because beyond it PyTorch's cast gives NaN.
        return {"codes": (value.float() / scale).clamp(-LIMIT, LIMIT).to(CODE), "scale": scale}

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]."""
        return parts["codes"].float() * parts["scale"]
