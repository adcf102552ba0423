"""A product with GEGLU as its last step, in Triton: a candidate for refit_host/fused, beside cuBLAS and a pass. [rows, cols] to [rows, inner] without the 2 * inner wide matrix."""

# pyright: reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

# Rows, columns and depth of a tile, stages, warps.
TILES = ((128, 128, 64, 3, 8), (128, 128, 64, 4, 8), (256, 64, 64, 4, 8), (128, 64, 64, 4, 4), (64, 128, 64, 4, 4))
GROUP = 8


@triton.jit
def _product_geglu(x, weight, bias, out, rows, inner, cols, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr):
    program = tl.program_id(0)
    down, across = tl.cdiv(rows, M), tl.cdiv(inner, N)
    band = program // (GROUP * across)
    height = min(down - band * GROUP, GROUP)
    row = (band * GROUP + (program % (GROUP * across)) % height) * M
    column = (program % (GROUP * across)) // height * N
    value = tl.zeros([M, N], tl.float32)
    gate = tl.zeros([M, N], tl.float32)
    for step in range(tl.cdiv(cols, K)):
        part = x.load([row, step * K])
        value = tl.dot(part, weight.load([column, step * K]).T, value)
        gate = tl.dot(part, weight.load([inner + column, step * K]).T, gate)
    at = column + tl.arange(0, N)
    value += tl.load(bias + at, mask=at < inner, other=0.0).to(tl.float32)[None, :]
    gate += tl.load(bias + inner + at, mask=at < inner, other=0.0).to(tl.float32)[None, :]
    gate *= 0.5 + 0.5 * tl.erf(gate * 0.7071067811865476)
    place = row + tl.arange(0, M)
    tl.store(
        out + place[:, None].to(tl.int64) * inner + at[None, :], (value * gate).to(out.dtype.element_ty), mask=(place < rows)[:, None] & (at < inner)[None, :]
    )  # fmt: skip


def product_geglu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, tile: tuple[int, int, int, int, int]) -> torch.Tensor:
    """`weight` [2 * inner, cols]: rows of the value, then of the gate."""
    tall, wide, deep, stages, warps = tile
    (rows, cols), inner = x.shape, weight.shape[0] // 2
    out = x.new_empty(rows, inner)
    _product_geglu[(triton.cdiv(rows, tall) * triton.cdiv(inner, wide),)](
        TensorDescriptor.from_tensor(x, [tall, deep]), TensorDescriptor.from_tensor(weight, [wide, deep]), bias, out, rows, inner, cols,
        M=tall, N=wide, K=deep, GROUP=GROUP, num_stages=stages, num_warps=warps,
    )  # fmt: skip
    return out
