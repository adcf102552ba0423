"""NVFP4: e2m1 codes, one e4m3 scale per 16 neighbours of a row, one f32 scale per tensor (as in NVIDIA's Transformer Engine and cuDNN).

Not run on hardware that multiplies it (Blackwell): weights are stored packed, steps dequantise.
"""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from ..files.storage import E2M1 as VALUES
from ..files.storage import nvfp4_values
from .fp8 import CODE as SCALE_CODE
from .fp8 import LIMIT as SCALE_LIMIT
from .rounding import by_chance
from .row_scale import SHRUNK, SMALLEST_SCALE

BLOCK = 16
# Under 7, the middle between 6 and the code that would come next, a value rounds to 6.
COVER = 6.4
# Halfway between neighbours. A value on a border takes the even code.
BORDERS = tuple((low + high) / 2 for low, high in zip(VALUES, VALUES[1:]))


def e2m1(value: Tensor) -> Tensor:
    """uint8 codes of f32 values, nearest, ties to the even code; beyond 6 the largest code."""
    magnitude = value.abs()
    code = torch.zeros_like(value, dtype=torch.uint8)
    for index, border in enumerate(BORDERS):
        # From an even code upwards the border itself stays, from an odd one it goes to the next, which is even.
        code += (magnitude >= border) if index % 2 else (magnitude > border)
    return code | (torch.signbit(value).to(torch.uint8) << 3)


class Nvfp4:
    name = "nvfp4"
    code = torch.uint8
    multiple = BLOCK

    def parts(self, rows: int, cols: int) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
        return (
            ("codes", (rows, cols // 2), torch.uint8),
            ("block_scale", (rows, cols // BLOCK), SCALE_CODE),
            # The tensor's scale once per row, so that rows of a fused matrix can be bound alone.
            ("scale", (rows, 1), torch.float32),
        )

    def encode(self, value: Tensor, base: Mapping[str, Tensor] | None = None, chance: Tensor | None = None) -> dict[str, Tensor]:
        """`value`: finite [rows, cols]. Two codes per byte, the left one in the low half. `base`: the pristine matrix as it is coded; a block that still fits keeps its scale.
        `chance`: rounding.py."""
        rows, cols = value.shape
        blocks = value.float().reshape(rows, cols // BLOCK, BLOCK)
        peaks = blocks.abs().amax(dim=-1)
        scale = (peaks.amax() / (VALUES[-1] * SCALE_LIMIT)).clamp_min(SMALLEST_SCALE).expand(rows, 1)
        if (
            base is not None
            and bool((peaks <= base["scale"] * (SCALE_LIMIT * COVER)).all())
            and bool((peaks.amax() >= SHRUNK * self._peaks(base).amax()))
        ):
            scale = base["scale"]
        block_scale = (peaks / VALUES[-1] / scale).clamp(max=SCALE_LIMIT).to(SCALE_CODE)
        if base is not None:
            old, before = base["block_scale"].float(), self._peaks(base)
            fits = (peaks <= old * scale * COVER) & (peaks >= SHRUNK * before) & (scale == base["scale"])
            block_scale = torch.where(fits, old, block_scale.float()).to(SCALE_CODE)
        step = block_scale.float() * scale
        # A block whose scale rounds to zero is zeros.
        quotient = torch.where(step[..., None] > 0, blocks / step[..., None].clamp_min(SMALLEST_SCALE), torch.zeros_like(blocks))
        if chance is not None:
            quotient = self._by_chance(quotient, chance.view(quotient.shape))
        codes = e2m1(quotient).view(rows, cols // 2, 2)
        return {"codes": codes[..., 0] | (codes[..., 1] << 4), "block_scale": block_scale, "scale": scale.contiguous()}

    def _by_chance(self, quotient: Tensor, chance: Tensor) -> Tensor:
        """Values of codes, except where there is no chance: those stay what they are."""
        size = quotient.abs().clamp(max=VALUES[-1])
        step = torch.where(size >= 4, 2.0, torch.where(size >= 2, 1.0, 0.5))
        return torch.where(chance < 0, quotient, by_chance(size / step, (size / step).round(), chance) * step * quotient.sign())

    def _peaks(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Largest magnitude of each block [rows, blocks]."""
        return self.decode(parts).unflatten(-1, (-1, BLOCK)).abs().amax(dim=-1)

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]."""
        return nvfp4_values(parts["codes"], parts["block_scale"], parts["scale"])

    def steps(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]: the distance between neighbouring values at each place."""
        unit = (parts["block_scale"].float() * parts["scale"]).repeat_interleave(BLOCK, 1)
        size = (self.decode(parts) / unit.clamp_min(SMALLEST_SCALE)).abs()
        return unit * torch.where(size >= 4, 2.0, torch.where(size >= 2, 1.0, 0.5))
