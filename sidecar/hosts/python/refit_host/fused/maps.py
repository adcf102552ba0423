"""The passes of a UNet between its products, as plain PyTorch: f32 inside, one rounding at the end.

A map is [batch, channels, height, width] with the channels of a place side by side in memory (channels last); results are such maps too.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..quant.product import quantise_tokens
from .rows import Rows


class Groups(NamedTuple):
    """A group norm; `weight` and `bias` [channels]."""

    number: int
    eps: float
    weight: Tensor
    bias: Tensor


class Time(NamedTuple):
    """What a step's time does to a map around its group norm, each [batch, channels]: `added` before it; times (1 + scale), plus shift behind it."""

    added: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None


TIMELESS = Time()


def channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last)


def rows_of(value: Tensor) -> Tensor:
    """A map as [batch * height * width, channels]: a view."""
    return value.permute(0, 2, 3, 1).reshape(-1, value.shape[1])


def map_of(rows: Tensor, like: Tensor) -> Tensor:
    """The way back: a map of the batch and size of `like`."""
    batch, _, height, width = like.shape
    return rows.view(batch, height, width, rows.shape[1]).permute(0, 3, 1, 2)


class MapOperations(Protocol):
    def norm_map(self, x: Tensor, groups: Groups, *, bias: Tensor | None = None, time: Time = TIMELESS, silu: bool = True) -> Tensor: ...

    def add_map(self, x: Tensor, y: Tensor | None, bias: Tensor | None = None) -> Tensor: ...

    def join_maps(self, x: Tensor, y: Tensor) -> Tensor: ...

    def double_map(self, x: Tensor) -> Tensor: ...

    def geglu(self, both: Tensor, *, codes: torch.dtype | None) -> Rows: ...


def _wide(value: Tensor) -> Tensor:
    return value.float()[:, :, None, None]


class PlainMapOperations:
    """The reference."""

    def norm_map(self, x: Tensor, groups: Groups, *, bias: Tensor | None = None, time: Time = TIMELESS, silu: bool = True) -> Tensor:
        """The group norm of x + bias + time.added, turned by the time's scale and shift, then SiLU. `bias` [channels]: of the convolution that gave x."""
        value = x.float() if bias is None else x.float() + bias.float()[:, None, None]
        value = value if time.added is None else value + _wide(time.added)
        value = functional.group_norm(value, groups.number, groups.weight.float(), groups.bias.float(), groups.eps)
        value = value if time.scale is None else value * (1 + _wide(time.scale))
        value = value if time.shift is None else value + _wide(time.shift)
        return channels_last((functional.silu(value) if silu else value).to(x.dtype))

    def add_map(self, x: Tensor, y: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """x + y + bias, of those that there are; `bias` [channels]."""
        value = x.float() if y is None else x.float() + y.float()
        return channels_last((value if bias is None else value + bias.float()[:, None, None]).to(x.dtype))

    def join_maps(self, x: Tensor, y: Tensor) -> Tensor:
        """The channels of both."""
        return channels_last(torch.cat([x, y], 1))

    def double_map(self, x: Tensor) -> Tensor:
        """Every place as two by two places."""
        return channels_last(functional.interpolate(x, scale_factor=2.0, mode="nearest"))

    def geglu(self, both: Tensor, *, codes: torch.dtype | None) -> Rows:
        """The left half of `both` [rows, 2 * cols] times the GELU (by the error function) of the right half."""
        value, gate = both.float().chunk(2, 1)
        value = value * functional.gelu(gate)
        return value.to(both.dtype) if codes is None else quantise_tokens(value, codes)
