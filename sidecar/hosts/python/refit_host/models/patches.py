"""Latents as tokens of square patches, and back. ComfyUI hands over unpacked latents of any size; the modules want tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def padded(sample: Tensor, patch: int) -> Tensor:
    """[..., h, w] with both sides a multiple of `patch`: rows and columns that lack are taken from the start, as ComfyUI does it."""
    height, width = sample.shape[-2:]
    lacking = (0, -width % patch, 0, -height % patch)
    if not any(lacking):
        return sample
    flat = sample.reshape(-1, *sample.shape[-3:]) if sample.dim() > 4 else sample
    return functional.pad(flat, lacking, mode="circular").reshape(*sample.shape[:-2], height + lacking[3], width + lacking[1])


def to_tokens(sample: Tensor, patch: int, *, channels_last: bool = False) -> Tensor:
    """[b, c, h, w] -> [b, h / p * w / p, c * p * p]; a token is (channel, row, column), with `channels_last` (row, column, channel). Frames [b, c, f, h, w] follow each other."""
    if sample.dim() == 5:
        batch, channels, frames = sample.shape[:3]
        each = to_tokens(sample.transpose(1, 2).reshape(batch * frames, channels, *sample.shape[-2:]), patch, channels_last=channels_last)
        return each.reshape(batch, -1, each.shape[-1])
    batch, channels, height, width = sample.shape
    cells = sample.reshape(batch, channels, height // patch, patch, width // patch, patch)
    order = (0, 2, 4, 3, 5, 1) if channels_last else (0, 2, 4, 1, 3, 5)
    return cells.permute(order).reshape(batch, (height // patch) * (width // patch), channels * patch * patch)


def from_tokens(tokens: Tensor, rows: int, columns: int, patch: int, *, channels_last: bool = False, frames: int | None = None) -> Tensor:
    """The way back: [b, rows * columns, c * p * p] -> [b, c, rows * p, columns * p]; with `frames` [b, c, f, ...]."""
    batch, _, width = tokens.shape
    channels = width // patch**2
    if frames is not None:
        each = from_tokens(tokens.reshape(batch * frames, rows * columns, width), rows, columns, patch, channels_last=channels_last)
        return each.reshape(batch, frames, channels, *each.shape[-2:]).transpose(1, 2)
    if channels_last:
        cells = tokens.reshape(batch, rows, columns, patch, patch, channels).permute(0, 5, 1, 3, 2, 4)
    else:
        cells = tokens.reshape(batch, rows, columns, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(batch, channels, rows * patch, columns * patch)


def grid(rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of every token, f32 [rows * columns]."""
    row = torch.arange(rows, device=device, dtype=torch.float32)[:, None].expand(rows, columns)
    column = torch.arange(columns, device=device, dtype=torch.float32)[None].expand(rows, columns)
    return row.reshape(-1), column.reshape(-1)
