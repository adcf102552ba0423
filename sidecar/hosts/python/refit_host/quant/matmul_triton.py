"""A product of int8 codes with everything that follows in its last step: scales of rows and tokens, the bias, and the branch of adapters that stay beside the layer.

PyTorch's int8 product gives int32 sums, which another pass has to read: this one takes 0.55 to 0.85 of its time on an H200. PyTorch's fp8 product is the faster one there;
that these kernels take fp8 codes as well is for the bench, which shows it (bench/gpu, piece "quant_kernels").
"""

# pyright: reportIndexIssue=false
# A Triton kernel is called through an index, which a function does not have.
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import int8


class Tiles(NamedTuple):
    """Tokens, rows of the weight and columns of a tile; rows of tiles that share the cache; warps and stages of the pipeline."""

    tokens: int
    rows: int
    cols: int
    group: int
    warps: int
    stages: int


# The fastest of six on an H200 (bench/gpu, piece "quant_kernels"), and one that needs no more shared memory than every card has.
WIDE, SMALL = Tiles(128, 256, 128, 8, 8, 4), Tiles(128, 128, 64, 8, 4, 3)
# Ranks of a branch that are multiplied at once.
RANKS = 16


@triton.jit
def _matmul(
    codes, weight, scale, weight_scale, bias, narrow, up, out, tokens, rows, cols, reserved, up_stride,
    INTEGER: tl.constexpr, BIAS: tl.constexpr, BRANCH: tl.constexpr, EVEN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    GROUP: tl.constexpr, RANKS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    down, across = tl.cdiv(tokens, BM), tl.cdiv(rows, BN)
    block = program // (GROUP * across)
    tall = tl.minimum(down - block * GROUP, GROUP)
    inside_block = program % (GROUP * across)
    rm = ((block * GROUP + inside_block % tall) * BM + tl.arange(0, BM)).to(tl.int64)
    rn = ((inside_block // tall) * BN + tl.arange(0, BN)).to(tl.int64)
    rk = tl.arange(0, BK)
    # Beyond the last row others are read, whose sums are not stored.
    token, row = tl.where(rm < tokens, rm, 0), tl.where(rn < rows, rn, 0)
    left = codes + token[:, None] * cols + rk[None, :]
    right = weight + row[None, :] * cols + rk[:, None]
    sums = tl.zeros([BM, BN], tl.int32 if INTEGER else tl.float32)
    for begin in range(0, cols, BK):
        if EVEN:
            one, other = tl.load(left), tl.load(right)
        else:
            one = tl.load(left, mask=(rk < cols - begin)[None, :], other=0.0)
            other = tl.load(right, mask=(rk < cols - begin)[:, None], other=0.0)
        sums = tl.dot(one, other, sums, out_dtype=tl.int32 if INTEGER else tl.float32)
        left += BK
        right += BK
    value = sums.to(tl.float32) * tl.load(scale + token)[:, None] * tl.load(weight_scale + row)[None, :]
    if BIAS:
        value += tl.load(bias + row).to(tl.float32)[None, :]
    if BRANCH:
        rr = tl.arange(0, RANKS)
        for begin in range(0, reserved, RANKS):
            value = tl.dot(
                tl.load(narrow + token[:, None] * reserved + (begin + rr)[None, :]),
                tl.load(up + row[None, :] * up_stride + (begin + rr)[:, None]),
                value,
            )
    tl.store(out + rm[:, None] * rows + rn[None, :], value.to(out.dtype.element_ty), mask=(rm < tokens)[:, None] & (rn < rows)[None, :])


def matmul(
    codes: Tensor, weight: Tensor, scale: Tensor, weight_scale: Tensor, bias: Tensor | None, branch: tuple[Tensor, Tensor] | None = None, tiles: Tiles = WIDE,
) -> Tensor:  # fmt: skip
    """bf16 [tokens, rows] = codes [tokens, cols] x weight [rows, cols]^T with scales [tokens, 1] and [rows, 1] and a bias [rows].

    `branch`: (first [tokens, reserved], up [rows, reserved or more]), both bf16, adds first x up^T; `reserved` is a multiple of RANKS."""
    tokens, cols = codes.shape
    rows = weight.shape[0]
    assert codes.stride() == (cols, 1) and weight.stride() == (cols, 1), "expected matrices whose rows follow each other"
    out = torch.empty(tokens, rows, dtype=torch.bfloat16, device=codes.device)
    first, up = branch or (out, out)
    _matmul[(triton.cdiv(tokens, tiles.tokens) * triton.cdiv(rows, tiles.rows),)](
        codes, weight, scale, weight_scale, out if bias is None else bias, first, up, out, tokens, rows, cols, first.shape[1], up.stride(0),
        INTEGER=codes.dtype == int8.CODE, BIAS=bias is not None, BRANCH=branch is not None, EVEN=cols % tiles.cols == 0, BM=tiles.tokens, BN=tiles.rows, BK=tiles.cols,
        GROUP=tiles.group, RANKS=RANKS, num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return out


# Tokens and columns of a tile, warps and stages: of `narrow`.
NARROW = (64, 128, 4, 3)


@triton.jit
def _narrow(
    codes, down, scale, down_scale, out, tokens, cols,
    INTEGER: tl.constexpr, RESERVED: tl.constexpr, EVEN: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    rm = (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)
    rr, rk = tl.arange(0, RESERVED), tl.arange(0, BK)
    token = tl.where(rm < tokens, rm, 0)
    left = codes + token[:, None] * cols + rk[None, :]
    coarse = down + rr[None, :] * cols + rk[:, None]
    fine = coarse + RESERVED * cols
    sum_type = tl.int32 if INTEGER else tl.float32
    first, second = tl.zeros([BM, RESERVED], sum_type), tl.zeros([BM, RESERVED], sum_type)
    for begin in range(0, cols, BK):
        if EVEN:
            one, other, last = tl.load(left), tl.load(coarse), tl.load(fine)
        else:
            inside = rk < cols - begin
            one = tl.load(left, mask=inside[None, :], other=0.0)
            other, last = tl.load(coarse, mask=inside[:, None], other=0.0), tl.load(fine, mask=inside[:, None], other=0.0)
        first = tl.dot(one, other, first, out_dtype=sum_type)
        second = tl.dot(one, last, second, out_dtype=sum_type)
        left += BK
        coarse += BK
        fine += BK
    value = first.to(tl.float32) * tl.load(down_scale + rr)[None, :] + second.to(tl.float32) * tl.load(down_scale + RESERVED + rr)[None, :]
    value *= tl.load(scale + token)[:, None]
    tl.store(out + rm[:, None] * RESERVED + rr[None, :], value.to(out.dtype.element_ty), mask=(rm < tokens)[:, None])


def narrow(codes: Tensor, down: Tensor, scale: Tensor, down_scale: Tensor, tiles: tuple[int, int, int, int] = NARROW) -> Tensor:
    """bf16 [tokens, reserved]: codes [tokens, cols] with scales [tokens, 1] times the first factor of a branch, codes [2 reserved, cols] with scales [2 reserved, 1]: coarse ones,
    and what they leave."""
    tokens, cols = codes.shape
    reserved = down.shape[0] // 2
    out = torch.empty(tokens, reserved, dtype=torch.bfloat16, device=codes.device)
    _narrow[(triton.cdiv(tokens, tiles[0]),)](
        codes, down, scale, down_scale, out, tokens, cols,
        INTEGER=codes.dtype == int8.CODE, RESERVED=reserved, EVEN=cols % tiles[1] == 0, BM=tiles[0], BK=tiles[1], num_warps=tiles[2], num_stages=tiles[3],
    )  # fmt: skip
    return out
