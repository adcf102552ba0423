"""fp8 (e4m3fn: 1 sign, 4 exponent, 3 mantissa bits, largest value 448) with one f32 scale per row (OCP 8-bit Floating Point, OFP8)."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from .rounding import by_chance
from .row_scale import SHRUNK, SMALLEST_SCALE, fresh_scales, row_peaks

CODE = torch.float8_e4m3fn
LIMIT = 448.0
# Under 464, the middle between 448 and the code that would come next, a value rounds to 448.
COVER = 456.0


class Fp8:
    name = "fp8"
    code = CODE
    # What torch._scaled_mm wants of both sizes.
    multiple = 16

    def parts(self, rows: int, cols: int) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
        return ("codes", (rows, cols), CODE), ("scale", (rows, 1), torch.float32)

    def encode(self, value: Tensor, base: Mapping[str, Tensor] | None = None, chance: Tensor | None = None) -> dict[str, Tensor]:
        """`value`: finite [rows, cols]. The nearest code, ties to even; a row's relative error is at most 1/16 of each value above 2^-6 of its largest. `base`: the pristine
        matrix as it is coded; a row keeps its scale, times a power of two where it has grown past it: codes that the change does not reach stay what they were.
        `chance`: rounding.py."""
        peak = row_peaks(value)
        scale = fresh_scales(peak, LIMIT)
        if base is not None:
            old = base["scale"]
            base_peak = row_peaks(base["codes"]) * old
            # 2^k with the smallest k that covers the row.
            grown = torch.ldexp(old, torch.ceil(torch.log2((peak / (old * COVER)).clamp_min(1.0))).to(torch.int32))
            keeps = (base_peak > 0) & (peak >= SHRUNK * base_peak) & torch.isfinite(grown) & (old >= SMALLEST_SCALE)
            scale = torch.where(keeps, grown, scale)
        # The quotient may exceed 448; clamped, because beyond it PyTorch's cast gives NaN.
        quotient = (value.float() / scale).clamp(-LIMIT, LIMIT)
        codes = quotient.to(CODE)
        if chance is not None:
            step = torch.ldexp(torch.ones_like(quotient), torch.frexp(quotient.abs().clamp_min(2.0**-6))[1] - 4)
            near = codes.float().abs() / step
            codes = (by_chance(quotient.abs() / step, near, chance) * step * quotient.sign()).clamp(-LIMIT, LIMIT).to(CODE)
        return {"codes": codes, "scale": scale}

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]."""
        return parts["codes"].float() * parts["scale"]

    def steps(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]: the distance between neighbouring values at each place."""
        exponent = torch.frexp(parts["codes"].float().abs().clamp_min(2.0**-6))[1]
        return torch.ldexp(parts["scale"].expand(exponent.shape), exponent - 4)
