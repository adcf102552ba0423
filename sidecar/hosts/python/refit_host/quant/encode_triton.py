"""fp8 codes and scales of merged rows in one launch: what Fp8.encode computes, bit for bit, without its intermediate tensors.

Two passes over a row (its largest magnitude, then its codes); the second one mostly hits the cache.
"""

# pyright: reportIndexIssue=false
# A Triton kernel is called through an index, which a function does not have.
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .fp8 import CODE

# Columns per step, warps.
BLOCK, WARPS = 1024, 4


@triton.jit
def _encode(value, codes, scales, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    peak = tl.zeros([BLOCK], tl.float32)
    for begin in range(0, cols, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        peak = tl.maximum(peak, tl.abs(tl.load(value + row * cols + at, mask=at < cols, other=0.0)))
    # 448: the largest code; 2^-126: the smallest normal f32.
    scale = tl.maximum(tl.math.div_rn(tl.max(peak, axis=0), 448.0), 1.1754943508222875e-38)
    tl.store(scales + row, scale)
    for begin in range(0, cols, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        quotient = tl.math.div_rn(tl.load(value + row * cols + at, mask=at < cols, other=0.0), tl.zeros([BLOCK], tl.float32) + scale)
        quotient = tl.minimum(tl.maximum(quotient, -448.0), 448.0)
        tl.store(codes + row * cols + at, quotient.to(tl.float8e4nv), mask=at < cols)


def encode_into(value: Tensor, codes: Tensor, scale: Tensor) -> None:
    """`value`: f32 [rows, cols], contiguous, finite; `codes`: e4m3fn of the same shape; `scale`: f32 [rows, 1]. On the current stream."""
    assert value.dtype == torch.float32 and codes.dtype == CODE and value.is_contiguous() and codes.is_contiguous()
    rows, cols = value.shape
    if rows:
        _encode[(rows,)](value, codes, scale, cols, BLOCK=BLOCK, num_warps=WARPS)
