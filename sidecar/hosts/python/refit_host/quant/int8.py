"""int8 with one f32 scale per row: codes -127 to 127 (a file's own may be -128).

A file may have turned groups of columns before it rounded (refit_host/rotation.py); then everything here sees the turned matrix.
"""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from .rounding import by_chance
from .row_scale import fresh_scales, kept_scales, row_peaks

CODE = torch.int8
LIMIT = 127.0
# Under 127.5 a value rounds to 127.
COVER = 127.49


class Int8:
    name = "int8"
    code = CODE
    # What torch._int_mm wants of the sizes that it reduces and gives, with room for 16-byte loads.
    multiple = 16

    def parts(self, rows: int, cols: int) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
        return ("codes", (rows, cols), CODE), ("scale", (rows, 1), torch.float32)

    def encode(self, value: Tensor, base: Mapping[str, Tensor] | None = None, chance: Tensor | None = None) -> dict[str, Tensor]:
        """`value`: finite [rows, cols]. The nearest code, ties to even: an error of at most half a scale. `base`: the pristine matrix as it is coded; a row that still fits keeps
        its scale: codes that the change does not reach stay what they were. `chance`: rounding.py."""
        peak = row_peaks(value)
        if base is None:
            scale = fresh_scales(peak, LIMIT)
        else:
            scale = kept_scales(peak, LIMIT, COVER, base["scale"], row_peaks(base["codes"]) * base["scale"])
        quotient = value.float() / scale
        codes = quotient.round()
        if chance is not None:
            codes = by_chance(quotient, codes, chance)
        return {"codes": codes.clamp(-LIMIT - 1, LIMIT).to(CODE), "scale": scale}

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]."""
        return parts["codes"].float() * parts["scale"]

    def steps(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]: the distance between neighbouring values at each place."""
        return parts["scale"].expand(parts["codes"].shape)
