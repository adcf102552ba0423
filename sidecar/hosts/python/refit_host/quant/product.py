"""Activations as codes per token, and the int8 product: by one kernel where Triton serves the device, else by PyTorch's operations."""

from __future__ import annotations

import torch
from torch import Tensor

from . import fp8, int8
from .row_scale import SMALLEST_SCALE

# torch._int_mm takes no fewer rows than this on CUDA.
FEWEST_ROWS = 32
LIMITS = {fp8.CODE: fp8.LIMIT, int8.CODE: int8.LIMIT}


def quantise_tokens(value: Tensor, code: torch.dtype) -> tuple[Tensor, Tensor]:
    """Activations [tokens, cols] as codes with one f32 scale per token [tokens, 1]."""
    if _kernels(value):
        from .product_triton import quantise_tokens as launch

        return launch(value, code)
    limit, wide = LIMITS[code], value.float()
    peak = wide.abs().amax(dim=-1, keepdim=True).clamp_min(SMALLEST_SCALE * limit)
    codes = (wide * (limit / peak)).clamp(-limit, limit)
    return (codes.round() if code == int8.CODE else codes).to(code), peak / limit


def int8_product(codes: Tensor, weight: Tensor, scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """bf16 [tokens, rows] = (codes [tokens, cols] x weight [rows, cols]^T) with scales [tokens, 1] and [rows, 1], and a bias [rows]."""
    tokens = codes.shape[0]
    if tokens < FEWEST_ROWS and codes.is_cuda:
        codes = torch.nn.functional.pad(codes, (0, 0, 0, FEWEST_ROWS - tokens))
    sums = torch._int_mm(codes, weight.t())[:tokens]
    if _kernels(codes):
        from .product_triton import scaled

        return scaled(sums, scale, weight_scale, bias)
    out = sums.float() * scale * weight_scale.view(1, -1)
    return (out if bias is None else out + bias.float()).to(torch.bfloat16)


def _kernels(value: Tensor) -> bool:
    """Whether the hand-written kernels run here. Inside torch.compile the compiler makes its own of the same operations."""
    if not value.is_cuda or torch.compiler.is_compiling():
        return False
    from ..weights.merge import triton_works

    return torch.version.hip is None and triton_works(value.device)
