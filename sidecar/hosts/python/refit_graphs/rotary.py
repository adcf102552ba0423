"""Rotary positions in f32. In: positions, and values of [batch, heads, n, width]. Out: angles, turned values."""

from __future__ import annotations

import torch

CosSin = tuple[torch.Tensor, torch.Tensor]


def angles(positions: torch.Tensor, width: int, theta: float) -> torch.Tensor:
    """Positions [n] -> angles [n, width / 2], f32: position * theta^(-2i / width)."""
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    # Python numbers, so that the trace holds one small f32 constant instead of the computation.
    frequencies = torch.tensor((theta**-exponents).tolist(), dtype=torch.float32)
    return positions.float()[:, None] * frequencies


def turn(values: torch.Tensor, rotation: CosSin) -> torch.Tensor:
    """Rotates each pair of neighbouring channels of [batch, heads, n, width] by cos and sin [n, width / 2], in f32."""
    cos, sin = rotation
    first, second = values.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2).to(values.dtype)
