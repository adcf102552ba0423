"""Rotary angles with their frequencies kept on the device, so that a CUDA graph can hold the whole step."""

from __future__ import annotations

import torch
from torch import Tensor


class Frequencies:
    """theta^(-2i / width) for several widths, f32; made once per device."""

    def __init__(self, widths: tuple[int, ...], theta: float) -> None:
        self._values = [theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width) for width in widths]
        self._on: dict[torch.device, list[Tensor]] = {}

    def on(self, device: torch.device) -> list[Tensor]:
        if device not in self._on:
            self._on[device] = [value.to(device, torch.float32) for value in self._values]
        return self._on[device]


def cos_sin(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Angles [n, w_i / 2] of each axis, side by side, as cos and sin."""
    turns = torch.cat(parts, dim=-1)
    return turns.cos(), turns.sin()


def places_of(sizes: tuple[int, ...], frequencies: list[Tensor]) -> Tensor:
    """Angles [product of sizes, sum of widths / 2] of every cell of a grid, its axes side by side; cells in row-major order, f32."""
    parts = []
    for axis, values in enumerate(frequencies):
        one = torch.arange(sizes[axis], device=values.device, dtype=torch.float32)[:, None] * values
        one = one.reshape(*(-1 if at == axis else 1 for at in range(len(sizes))), len(values))
        parts.append(one.expand(*sizes, len(values)).flatten(0, -2))
    return torch.cat(parts, dim=-1)
