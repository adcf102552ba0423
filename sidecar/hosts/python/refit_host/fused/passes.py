"""The passes between the products of a transformer block with adaptive norms, as plain PyTorch: f32 inside, one rounding at the end.

`x`, `out`: [batch, tokens, cols]; batches may lie apart, tokens follow each other. `y`, results: [batch * tokens, cols].
`codes`: the codes that the next product takes, None for values. Modulations (`gate`, `scale`, `shift`): [batch, cols].
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..quant.product import quantise_tokens
from .rows import Rows

# Largest f16: values beyond it would become infinite (diffusers' blocks clip there too).
F16_LIMIT = 65504.0


class Modulation(NamedTuple):
    scale: Tensor
    shift: Tensor


class Update(NamedTuple):
    """out = x + gate * y."""

    y: Tensor
    gate: Tensor
    out: Tensor


class Projections(NamedTuple):
    """`qkv`: [batch * tokens, 3 * heads * width]; weights of the RMS norms of queries and keys: [width]."""

    qkv: Tensor
    query_norm: Tensor
    key_norm: Tensor


class Operations(Protocol):
    def norm(self, x: Tensor, modulation: Modulation, eps: float, *, codes: torch.dtype | None) -> Rows: ...

    def update(self, x: Tensor, update: Update) -> None: ...

    def update_and_norm(self, x: Tensor, update: Update, modulation: Modulation, eps: float, *, codes: torch.dtype | None) -> Rows: ...

    def rotate(
        self, parts: Sequence[Projections], batch: int, heads: int, rotation: tuple[Tensor, Tensor], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def gelu(self, value: Tensor, beside: Tensor | None, *, codes: torch.dtype | None) -> Rows: ...

    def rows(self, x: Tensor, *, codes: torch.dtype | None) -> Rows: ...


def _rows(value: Tensor, dtype: torch.dtype, codes: torch.dtype | None) -> Rows:
    flat = value.reshape(-1, value.shape[-1])
    return flat.to(dtype) if codes is None else quantise_tokens(flat, codes)


class PlainOperations:
    """The reference."""

    def norm(self, x: Tensor, modulation: Modulation, eps: float, *, codes: torch.dtype | None) -> Rows:
        """Layer norm without weights, then (1 + scale) and shift."""
        normed = functional.layer_norm(x.float(), (x.shape[-1],), eps=eps)
        return _rows(normed * (1 + modulation.scale[:, None].float()) + modulation.shift[:, None].float(), x.dtype, codes)

    def update(self, x: Tensor, update: Update) -> None:
        value = x.float() + update.gate[:, None].float() * update.y.view(x.shape).float()
        update.out.copy_(value.clamp(-F16_LIMIT, F16_LIMIT) if x.dtype == torch.float16 else value)

    def update_and_norm(self, x: Tensor, update: Update, modulation: Modulation, eps: float, *, codes: torch.dtype | None) -> Rows:
        self.update(x, update)
        return self.norm(update.out, modulation, eps, codes=codes)

    def rotate(
        self, parts: Sequence[Projections], batch: int, heads: int, rotation: tuple[Tensor, Tensor], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [batch, tokens of all parts, heads, width]: RMS norm per head, then pairs of neighbouring channels turned
        by cos and sin [tokens, width / 2] f32."""
        found: list[list[Tensor]] = [[], [], []]
        for part in parts:
            query, key, value = part.qkv.view(batch, -1, 3, heads, part.query_norm.shape[0]).unbind(2)
            for into, given, weight in ((found[0], query, part.query_norm), (found[1], key, part.key_norm)):
                wide = given.float()
                into.append(wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float())
            found[2].append(value)
        cos, sin = (each[:, None] for each in rotation)
        dtype = parts[0].qkv.dtype
        out = []
        for values in found[:2]:
            first, second = torch.cat(values, 1).unflatten(-1, (-1, 2)).unbind(-1)
            out.append(torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2).to(dtype))
        return out[0], out[1], torch.cat(found[2], 1) if len(parts) > 1 else found[2][0]

    def gelu(self, value: Tensor, beside: Tensor | None, *, codes: torch.dtype | None) -> Rows:
        """GELU (tanh form) of `value` [rows, cols]; `beside` [rows, k] as it is to the left of it."""
        out = functional.gelu(value.float(), approximate="tanh")
        return _rows(out if beside is None else torch.cat([beside.float(), out], -1), value.dtype, codes)

    def rows(self, x: Tensor, *, codes: torch.dtype | None) -> Rows:
        return _rows(x, x.dtype, codes)
