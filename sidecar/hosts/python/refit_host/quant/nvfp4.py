"""NVFP4: e2m1 codes, one e4m3 scale per 16 neighbours of a row, one f32 scale per tensor (as in NVIDIA's Transformer Engine and cuDNN).

Not run on hardware that multiplies it (Blackwell): weights are stored packed, steps dequantise.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Mapping

import torch
from torch import Tensor

from .fp8 import CODE as SCALE_CODE
from .fp8 import LIMIT as SCALE_LIMIT
from .fp8 import SMALLEST_SCALE

BLOCK = 16
# Magnitudes of the codes 0..7; bit 3 is the sign.
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
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


@lru_cache
def _table(device: torch.device) -> Tensor:
    """Value of each code; made once per device, because a CUDA graph cannot hold a copy from ordinary host memory."""
    return torch.tensor([*VALUES, *(-value for value in VALUES)], device=device)


class Nvfp4:
    name = "nvfp4"
    multiple = BLOCK

    def parts(self, rows: int, cols: int) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
        return (
            ("codes", (rows, cols // 2), torch.uint8),
            ("block_scale", (rows, cols // BLOCK), SCALE_CODE),
            # The tensor's scale once per row, so that rows of a fused matrix can be bound alone.
            ("scale", (rows, 1), torch.float32),
        )

    def encode(self, value: Tensor) -> dict[str, Tensor]:
        """`value`: finite [rows, cols]. Two codes per byte, the left one in the low half."""
        rows, cols = value.shape
        blocks = value.float().reshape(rows, cols // BLOCK, BLOCK)
        peaks = blocks.abs().amax(dim=-1)
        scale = (peaks.amax() / (VALUES[-1] * SCALE_LIMIT)).clamp_min(SMALLEST_SCALE)
        block_scale = (peaks / VALUES[-1] / scale).clamp(max=SCALE_LIMIT).to(SCALE_CODE)
        step = block_scale.float() * scale
        # A block whose scale rounds to zero is zeros.
        quotient = torch.where(step[..., None] > 0, blocks / step[..., None].clamp_min(SMALLEST_SCALE), torch.zeros_like(blocks))
        codes = e2m1(quotient).view(rows, cols // 2, 2)
        return {"codes": codes[..., 0] | (codes[..., 1] << 4), "block_scale": block_scale, "scale": scale.expand(rows, 1).contiguous()}

    def decode(self, parts: Mapping[str, Tensor]) -> Tensor:
        """f32 [rows, cols]."""
        packed = parts["codes"]
        codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)
        table = _table(packed.device)
        step = (parts["block_scale"].float() * parts["scale"])[..., None]
        return (table[codes.long()].unflatten(-1, (-1, BLOCK)) * step).flatten(-2)
