"""The operations of passes.py, one Triton launch each. Bound by memory: every value is read once and written once.

Codes of a row need its largest magnitude, so one program holds a whole row in registers.
"""

# pyright: reportIndexIssue=false
# A Triton kernel is called through an index, which a function does not have.
from __future__ import annotations

from typing import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .map_kernels import KernelMapOperations
from .passes import F16_LIMIT, Even, Modulation, Projections, Update
from .put import KINDS, put
from .rows import Rows

# Warps of a program; heads of a program of `rotate`; columns of a program of `gelu` without codes. The fastest, or as fast, of those
# that the bench tries on an H100 (bench/gpu, piece "passes").
NORM_WARPS, ROTATE_WARPS, GELU_WARPS, CODES_WARPS = 4, 4, 4, 8
HEADS, GELU_COLUMNS = 8, 2048
# Rows of up to so many columns take one warp, beyond so many twice the usual ones (H200, piece "fused_unet_parts").
NARROW, WIDE = 2048, 4096


@triton.jit
def _norm(
    x, y, y_weight, gate, kept, weight, bias, scale, shift, out, scales, tokens, cols, x_batch, kept_batch, gate_batch, scale_batch, eps, y_eps,
    UPDATES: tl.constexpr, EVENS: tl.constexpr, GATES: tl.constexpr, NORMS: tl.constexpr, CENTRED: tl.constexpr, WEIGHS: tl.constexpr, BIASES: tl.constexpr,
    SCALES: tl.constexpr, SHIFTS: tl.constexpr, CODES: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    batch, token = row // tokens, row % tokens
    at = tl.arange(0, BLOCK)
    inside = at < cols
    value = tl.load(x + batch * x_batch + token * cols + at, mask=inside, other=0.0).to(tl.float32)
    if UPDATES:
        change = tl.load(y + row * cols + at, mask=inside, other=0.0).to(tl.float32)
        if EVENS:
            change *= tl.rsqrt(tl.sum(change * change, axis=0) / cols + y_eps)
            change *= tl.load(y_weight + at, mask=inside, other=0.0).to(tl.float32)
        if GATES:
            change *= tl.load(gate + batch * gate_batch + at, mask=inside, other=0.0).to(tl.float32)
        value += change
        if LIMIT > 0:
            value = tl.minimum(tl.maximum(value, -LIMIT), LIMIT)
        rounded = value.to(kept.dtype.element_ty)
        tl.store(kept + batch * kept_batch + token * cols + at, rounded, mask=inside)
        value = rounded.to(tl.float32)
    if NORMS:
        if CENTRED:
            value = tl.where(inside, value - tl.sum(value, axis=0) / cols, 0.0)
        value *= tl.rsqrt(tl.sum(value * value, axis=0) / cols + eps)
        if WEIGHS:
            value *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
        if BIASES:
            value += tl.load(bias + at, mask=inside, other=0.0).to(tl.float32)
        if SCALES:
            value *= 1.0 + tl.load(scale + batch * scale_batch + at, mask=inside, other=0.0).to(tl.float32)
        if SHIFTS:
            value += tl.load(shift + batch * scale_batch + at, mask=inside, other=0.0).to(tl.float32)
        put(value, out, scales, row, at, inside, cols, CODES)


@triton.jit
def _turned(source, weight, cos, sin, at, inside, eps, HEADS: tl.constexpr, WIDTH: tl.constexpr):
    """[HEADS, WIDTH]: the RMS norm of each head, each pair of neighbours turned."""
    value = tl.load(source + at, mask=inside, other=0.0).to(tl.float32)
    value *= tl.rsqrt(tl.sum(value * value, axis=1) / WIDTH + eps)[:, None]
    value *= tl.load(weight + tl.arange(0, WIDTH)).to(tl.float32)[None, :]
    first, second = tl.split(tl.reshape(value, [HEADS, WIDTH // 2, 2]))
    return tl.reshape(tl.join(first * cos - second * sin, first * sin + second * cos), [HEADS, WIDTH])


@triton.jit
def _rotate(
    queries, keys, values, query_norm, key_norm, cos, sin, query, key, value, tokens, first, total, heads, query_row, key_row, value_row, eps,
    COPIES: tl.constexpr, WIDTH: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    batch, token = row // tokens, row % tokens + first
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    at = head[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    inside = head[:, None] < heads
    target = (batch * total + token) * heads * WIDTH
    half = token * (WIDTH // 2) + tl.arange(0, WIDTH // 2)
    turn_cos, turn_sin = tl.load(cos + half)[None, :], tl.load(sin + half)[None, :]
    turned = _turned(queries + row * query_row, query_norm, turn_cos, turn_sin, at, inside, eps, HEADS, WIDTH)
    tl.store(query + target + at, turned.to(query.dtype.element_ty), mask=inside)
    turned = _turned(keys + row * key_row, key_norm, turn_cos, turn_sin, at, inside, eps, HEADS, WIDTH)
    tl.store(key + target + at, turned.to(key.dtype.element_ty), mask=inside)
    if COPIES:
        tl.store(value + target + at, tl.load(values + row * value_row + at, mask=inside), mask=inside)


@triton.jit
def _turn(x, weight, cos, sin, out, tokens, cols, x_row, eps, TURNS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """A row: its RMS norm over all heads, then pairs of neighbours turned."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < cols
    value = tl.load(x + row * x_row + at, mask=inside, other=0.0).to(tl.float32)
    value *= tl.rsqrt(tl.sum(value * value, axis=0) / cols + eps)
    value *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    if TURNS:
        pair = tl.arange(0, BLOCK // 2)
        half = row % tokens * (WIDTH // 2) + pair % (WIDTH // 2)
        turn_cos, turn_sin = tl.load(cos + half), tl.load(sin + half)
        first, second = tl.split(tl.reshape(value, [BLOCK // 2, 2]))
        value = tl.reshape(tl.join(first * turn_cos - second * turn_sin, first * turn_sin + second * turn_cos), [BLOCK])
    tl.store(out + row * cols + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gated(gate, value, out, scales, cols, CODES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < cols
    wide = tl.load(gate + row * cols + at, mask=inside, other=0.0).to(tl.float32)
    wide *= tl.sigmoid(wide) * tl.load(value + row * cols + at, mask=inside, other=0.0).to(tl.float32)
    put(wide, out, scales, row, at, inside, cols, CODES)


@triton.jit
def _gelu(beside, value, out, scales, beside_cols, cols, CODES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    left, inside = at < beside_cols, at < beside_cols + cols
    wide = tl.load(value + row * cols + (at - beside_cols), mask=inside & (at >= beside_cols), other=0.0).to(tl.float32)
    # tanh form: x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
    wide *= tl.sigmoid(1.5957691216057308 * (wide + 0.044715 * wide * wide * wide))
    wide += tl.load(beside + row * beside_cols + at, mask=left, other=0.0).to(tl.float32)
    put(wide, out, scales, row, at, inside, beside_cols + cols, CODES)


@triton.jit
def _codes(x, out, scales, tokens, cols, x_batch, CODES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < cols
    put(
        tl.load(x + row // tokens * x_batch + row % tokens * cols + at, mask=inside, other=0.0).to(tl.float32),
        out,
        scales,
        row,
        at,
        inside,
        cols,
        CODES,
    )


def _room(rows: int, cols: int, like: Tensor, codes: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """(out, scales); scales are a placeholder where there are none."""
    if codes is None:
        out = like.new_empty(rows, cols)
        return out, out
    return like.new_empty(rows, cols, dtype=codes), like.new_empty(rows, 1, dtype=torch.float32)


def _warps(block: int) -> int:
    return 1 if block <= NARROW else NORM_WARPS if block <= WIDE else 2 * NORM_WARPS


def _columns(cols: int, codes: torch.dtype | None) -> tuple[int, int]:
    """Columns and warps of a program that needs no whole row but for codes."""
    return (GELU_COLUMNS, GELU_WARPS) if codes is None else (triton.next_power_of_2(cols), CODES_WARPS)


def _checked(rotation: tuple[Tensor, Tensor], tokens: int, width: int) -> tuple[Tensor, Tensor]:
    cos, sin = rotation
    assert cos.shape == (tokens, width // 2) and cos.dtype == torch.float32 and cos.is_contiguous() and sin.is_contiguous()
    return rotation


def _tokens_follow(x: Tensor) -> Tensor:
    """`x` [batch, tokens, cols] with tokens one after the other; batches may lie apart."""
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()


class KernelOperations(KernelMapOperations):
    """For CUDA tensors."""

    def _norm(self, x: Tensor, update: Update | None, modulation: Modulation | None, even: Even | None, codes: torch.dtype | None) -> Rows:
        batch, tokens, cols = x.shape
        x = _tokens_follow(x)
        norms, kept = even is not None, x if update is None else update.out
        out, scales = _room(batch * tokens, cols, x, codes) if norms else (x, x)
        # What is not there has a place that nobody looks at.
        y, gate, _, change = (None, None, None, None) if update is None else update
        _, weight, bias, centred = even or Even(0.0)
        scale, shift = modulation or (None, None)
        assert change is None or not change.centred and change.weight is not None and change.bias is None
        there = {
            name: one is not None
            for name, one in (
                ("EVENS", change),
                ("GATES", gate),
                ("WEIGHS", weight),
                ("BIASES", bias),
                ("SCALES", scale),
                ("SHIFTS", shift),
            )
        }
        y, gate, weight, bias, scale = (x if one is None else one for one in (y, gate, weight, bias, scale))
        shift = scale if shift is None else shift
        assert update is None or y.is_contiguous()
        assert kept.stride()[1:] == (cols, 1) and gate.stride(-1) == scale.stride(-1) == 1 and scale.stride(0) == shift.stride(0)
        block = triton.next_power_of_2(cols)
        _norm[(batch * tokens,)](
            x, y, x if change is None else change.weight, gate, kept, weight, bias, scale, shift, out, scales, tokens, cols, x.stride(0), kept.stride(0), gate.stride(0),
            scale.stride(0), 0.0 if even is None else even.eps, 0.0 if change is None else change.eps, UPDATES=update is not None, NORMS=norms, CENTRED=centred,
            CODES=KINDS[codes], LIMIT=F16_LIMIT if x.dtype == torch.float16 else 0.0, BLOCK=block, num_warps=_warps(block), **there,
        )  # fmt: skip
        return out if codes is None else (out, scales)

    def norm(self, x: Tensor, modulation: Modulation | None, even: Even, *, codes: torch.dtype | None) -> Rows:
        return self._norm(x, None, modulation, even, codes)

    def update(self, x: Tensor, update: Update) -> None:
        self._norm(x, update, None, None, None)

    def update_and_norm(self, x: Tensor, update: Update, modulation: Modulation | None, even: Even, *, codes: torch.dtype | None) -> Rows:
        return self._norm(x, update, modulation, even, codes)

    def rotate(
        self, parts: Sequence[Projections], batch: int, heads: int, rotation: tuple[Tensor, Tensor], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        width, like = parts[0].query_norm.shape[0], parts[0].query
        counts = [part.query.shape[0] // batch for part in parts]
        total, joins = sum(counts), len(parts) > 1
        cos, sin = _checked(rotation, total, width)
        query, key = (like.new_empty(batch, total, heads, width) for _ in range(2))
        # Values of a single part stay where the product put them.
        value = (
            like.new_empty(batch, total, heads, width)
            if joins
            else parts[0].value.unflatten(0, (batch, total)).unflatten(2, (heads, width))
        )
        first = 0
        for part, count in zip(parts, counts):
            assert all(each.stride(1) == 1 for each in part[:3])
            _rotate[(batch * count, triton.cdiv(heads, HEADS))](
                *part, cos, sin, query, key, value, count, first, total, heads, *(each.stride(0) for each in part[:3]), eps,
                COPIES=joins, WIDTH=width, HEADS=HEADS, num_warps=ROTATE_WARPS,
            )  # fmt: skip
            first += count
        return query, key, value

    def turn(self, value: Tensor, weight: Tensor, batch: int, heads: int, rotation: tuple[Tensor, Tensor] | None, eps: float) -> Tensor:
        rows, cols = value.shape
        tokens, width = rows // batch, cols // heads
        out, block = value.new_empty(batch, tokens, heads, width), triton.next_power_of_2(cols)
        cos, sin = (value, value) if rotation is None else _checked(rotation, tokens, width)
        assert value.stride(1) == 1
        _turn[(rows,)](
            value,
            weight,
            cos,
            sin,
            out,
            tokens,
            cols,
            value.stride(0),
            eps,
            TURNS=rotation is not None,
            WIDTH=width,
            BLOCK=block,
            num_warps=_warps(block),
        )
        return out

    def gated(self, gate: Tensor, value: Tensor, *, codes: torch.dtype | None) -> Rows:
        rows, cols = value.shape
        assert gate.is_contiguous() and value.is_contiguous()
        out, scales = _room(rows, cols, value, codes)
        block, warps = _columns(cols, codes)
        _gated[(rows, triton.cdiv(cols, block))](gate, value, out, scales, cols, CODES=KINDS[codes], BLOCK=block, num_warps=warps)
        return out if codes is None else (out, scales)

    def gelu(self, value: Tensor, beside: Tensor | None, *, codes: torch.dtype | None) -> Rows:
        rows, cols = value.shape
        left = 0 if beside is None else beside.shape[1]
        out, scales = _room(rows, left + cols, value, codes)
        block, warps = _columns(left + cols, codes)
        _gelu[(rows, triton.cdiv(left + cols, block))](
            value if beside is None else beside, value, out, scales, left, cols, CODES=KINDS[codes], BLOCK=block, num_warps=warps,
        )  # fmt: skip
        return out if codes is None else (out, scales)

    def rows(self, x: Tensor, *, codes: torch.dtype | None) -> Rows:
        if codes is None:
            return x.reshape(-1, x.shape[-1])
        batch, tokens, cols = x.shape
        x = _tokens_follow(x)
        out, scales = _room(batch * tokens, cols, x, codes)
        _codes[(batch * tokens,)](
            x, out, scales, tokens, cols, x.stride(0), CODES=KINDS[codes], BLOCK=triton.next_power_of_2(cols), num_warps=NORM_WARPS
        )
        return out, scales
