"""What stands before and after an int8 or fp8 product, one pass over memory each: codes per token, and the scales of an int8 product's sums."""

# pyright: reportIndexIssue=false
# A Triton kernel is called through an index, which a function does not have.
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import int8

WARPS = 4
# Rows, columns, warps of a tile of sums.
SUMS = (32, 128, 4)


@triton.jit
def nearest(value):
    """Ties to even, for magnitudes under 2^22: beyond 1.5 * 2^23 an f32 holds whole numbers only."""
    return (value + 12582912.0) - 12582912.0


@triton.jit
def _quantise(x, out, scales, cols, LIMIT: tl.constexpr, INTEGER: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < cols
    value = tl.load(x + row * cols + at, mask=inside, other=0.0).to(tl.float32)
    # The smallest scale is the smallest normal f32.
    peak = tl.maximum(tl.max(tl.abs(value), axis=0), LIMIT * 1.1754943508222875e-38)
    code = tl.minimum(tl.maximum(value * (LIMIT / peak), -LIMIT), LIMIT)
    if INTEGER:
        tl.store(out + row * cols + at, nearest(code).to(tl.int8), mask=inside)
    else:
        tl.store(out + row * cols + at, code.to(tl.float8e4nv), mask=inside)
    tl.store(scales + row, peak / LIMIT)


def quantise_tokens(value: Tensor, code: torch.dtype) -> tuple[Tensor, Tensor]:
    """[tokens, cols] as codes with one f32 scale per token [tokens, 1]."""
    value = value.contiguous()
    tokens, cols = value.shape
    out, scales = value.new_empty(tokens, cols, dtype=code), value.new_empty(tokens, 1, dtype=torch.float32)
    integer = code == int8.CODE
    if tokens:
        _quantise[(tokens,)](
            value,
            out,
            scales,
            cols,
            LIMIT=127.0 if integer else 448.0,
            INTEGER=integer,
            BLOCK=triton.next_power_of_2(cols),
            num_warps=WARPS,
        )
    return out, scales


@triton.jit
def _scaled(sums, scale, weight_scale, bias, out, rows, cols, BIAS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    rm = (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (rm < rows)[:, None] & (rn < cols)[None, :]
    place = rm[:, None] * cols + rn[None, :]
    value = tl.load(sums + place, mask=inside, other=0).to(tl.float32)
    value *= tl.load(scale + rm, mask=rm < rows, other=0.0)[:, None]
    value *= tl.load(weight_scale + rn, mask=rn < cols, other=0.0)[None, :]
    if BIAS:
        value += tl.load(bias + rn, mask=rn < cols, other=0.0).to(tl.float32)[None, :]
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


def scaled(sums: Tensor, scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """int32 sums [tokens, rows] with scales [tokens, 1] and [rows, 1] and a bias [rows], in bf16."""
    rows, cols = sums.shape
    out = torch.empty(rows, cols, dtype=torch.bfloat16, device=sums.device)
    grid = (triton.cdiv(rows, SUMS[0]), triton.cdiv(cols, SUMS[1]))
    _scaled[grid](
        sums, scale, weight_scale, out if bias is None else bias, out, rows, cols, BIAS=bias is not None, BM=SUMS[0], BN=SUMS[1], num_warps=SUMS[2],
    )  # fmt: skip
    return out
