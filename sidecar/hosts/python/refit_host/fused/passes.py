"""The passes between the products of a transformer block with adaptive norms, as plain PyTorch: f32 inside, one rounding at the end.

`x`, `out`: [batch, tokens, cols]; batches may lie apart, tokens follow each other. `y`, results: [batch * tokens, cols].
`codes`: the codes that the next product takes, None for values. Modulations (`gate`, `scale`, `shift`): [batch, cols], of any float type.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..quant.product import quantise_tokens
from .maps import MapOperations, PlainMapOperations
from .rows import Rows

# Largest f16: values beyond it would become infinite (diffusers' blocks clip there too).
F16_LIMIT = 65504.0


class Even(NamedTuple):
    """How rows are brought to one length: the layer norm where `centred`, else the RMS norm, then the weight and bias [cols] that it may have."""

    eps: float
    weight: Tensor | None = None
    bias: Tensor | None = None
    centred: bool = True


class Modulation(NamedTuple):
    """Rows times (1 + scale), plus the shift where there is one."""

    scale: Tensor
    shift: Tensor | None = None


class Update(NamedTuple):
    """out = x + gate * y; without a gate x + y. `even`: an RMS norm of y before."""

    y: Tensor
    gate: Tensor | None
    out: Tensor
    even: Even | None = None


class Projections(NamedTuple):
    """Queries, keys and values [batch * tokens, heads * width], columns side by side, rows at one distance; weights of the RMS norms of queries and keys: [width]."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_norm: Tensor
    key_norm: Tensor

    @staticmethod
    def of_one(qkv: Tensor, query_norm: Tensor, key_norm: Tensor) -> "Projections":
        """All three from one product [batch * tokens, 3 * heads * width]."""
        query, key, value = qkv.chunk(3, 1)
        return Projections(query, key, value, query_norm, key_norm)


class Operations(MapOperations, Protocol):
    def norm(self, x: Tensor, modulation: Modulation | None, even: Even, *, codes: torch.dtype | None) -> Rows: ...

    def update(self, x: Tensor, update: Update) -> None: ...

    def update_and_norm(
        self, x: Tensor, update: Update, modulation: Modulation | None, even: Even, *, codes: torch.dtype | None
    ) -> Rows: ...

    def rotate(
        self, parts: Sequence[Projections], batch: int, heads: int, rotation: tuple[Tensor, Tensor], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def turn(self, value: Tensor, weight: Tensor, batch: int, heads: int, rotation: tuple[Tensor, Tensor] | None, eps: float) -> Tensor: ...

    def gelu(self, value: Tensor, beside: Tensor | None, *, codes: torch.dtype | None) -> Rows: ...

    def gated(self, gate: Tensor, value: Tensor, *, codes: torch.dtype | None) -> Rows: ...

    def rows(self, x: Tensor, *, codes: torch.dtype | None) -> Rows: ...


def _rows(value: Tensor, dtype: torch.dtype, codes: torch.dtype | None) -> Rows:
    flat = value.reshape(-1, value.shape[-1])
    return flat.to(dtype) if codes is None else quantise_tokens(flat, codes)


def _even(x: Tensor, even: Even) -> Tensor:
    """In f32."""
    wide = x.float()
    if even.centred:
        wide = functional.layer_norm(wide, (x.shape[-1],), eps=even.eps)
    else:
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + even.eps)
    wide = wide if even.weight is None else wide * even.weight.float()
    return wide if even.bias is None else wide + even.bias.float()


def _turned(values: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = (each[:, None] for each in rotation)
    first, second = values.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)


class PlainOperations(PlainMapOperations):
    """The reference."""

    def norm(self, x: Tensor, modulation: Modulation | None, even: Even, *, codes: torch.dtype | None) -> Rows:
        value = _even(x, even)
        if modulation is not None:
            value = value * (1 + modulation.scale[:, None].float())
            value = value if modulation.shift is None else value + modulation.shift[:, None].float()
        return _rows(value, x.dtype, codes)

    def update(self, x: Tensor, update: Update) -> None:
        change = update.y.view(x.shape).float() if update.even is None else _even(update.y.view(x.shape), update.even)
        value = x.float() + (change if update.gate is None else update.gate[:, None].float() * change)
        update.out.copy_(value.clamp(-F16_LIMIT, F16_LIMIT) if x.dtype == torch.float16 else value)

    def update_and_norm(self, x: Tensor, update: Update, modulation: Modulation | None, even: Even, *, codes: torch.dtype | None) -> Rows:
        self.update(x, update)
        return self.norm(update.out, modulation, even, codes=codes)

    def rotate(
        self, parts: Sequence[Projections], batch: int, heads: int, rotation: tuple[Tensor, Tensor], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [batch, tokens of all parts, heads, width]: RMS norm per head, then pairs of neighbouring channels turned
        by cos and sin [tokens, width / 2] f32."""
        found: list[list[Tensor]] = [[], [], []]
        for part in parts:
            query, key, value = (each.unflatten(0, (batch, -1)).unflatten(2, (heads, -1)) for each in part[:3])
            for into, given, weight in ((found[0], query, part.query_norm), (found[1], key, part.key_norm)):
                into.append(_even(given, Even(eps, weight, centred=False)))
            found[2].append(value)
        query, key = (_turned(torch.cat(values, 1), rotation).to(parts[0].query.dtype) for values in found[:2])
        return query, key, torch.cat(found[2], 1) if len(parts) > 1 else found[2][0]

    def turn(self, value: Tensor, weight: Tensor, batch: int, heads: int, rotation: tuple[Tensor, Tensor] | None, eps: float) -> Tensor:
        """[batch, tokens, heads, width] of [batch * tokens, heads * width]: RMS norm over all heads, `weight` [heads * width], then pairs turned as above."""
        even = _even(value, Even(eps, weight, centred=False)).unflatten(0, (batch, -1)).unflatten(2, (heads, -1))
        return (even if rotation is None else _turned(even, rotation)).to(value.dtype)

    def gelu(self, value: Tensor, beside: Tensor | None, *, codes: torch.dtype | None) -> Rows:
        """GELU (tanh form) of `value` [rows, cols]; `beside` [rows, k] as it is to the left of it."""
        out = functional.gelu(value.float(), approximate="tanh")
        return _rows(out if beside is None else torch.cat([beside.float(), out], -1), value.dtype, codes)

    def gated(self, gate: Tensor, value: Tensor, *, codes: torch.dtype | None) -> Rows:
        """SiLU of `gate` times `value`, both [rows, cols]."""
        return _rows(functional.silu(gate.float()) * value.float(), value.dtype, codes)

    def rows(self, x: Tensor, *, codes: torch.dtype | None) -> Rows:
        return _rows(x, x.dtype, codes)
