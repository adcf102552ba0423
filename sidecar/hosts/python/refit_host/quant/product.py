"""Activations as codes per token, and the int8 product: by one kernel where Triton serves the device, else by PyTorch's operations."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..device_time import device_milliseconds
from . import fp8, int8
from .row_scale import SMALLEST_SCALE

if TYPE_CHECKING:
    from .branch import Branch
    from .matmul_triton import Tiles

log = logging.getLogger("refit_host")

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


def int8_product(
    codes: Tensor, weight: Tensor, scale: Tensor, weight_scale: Tensor, bias: Tensor | None, branch: Branch | None = None
) -> Tensor:
    """bf16 [tokens, rows] = (codes [tokens, cols] x weight [rows, cols]^T) with scales [tokens, 1] and [rows, 1], a bias [rows], and the branch beside it."""
    tiles = _tiles(codes.device) if _kernels(codes) else None
    if tiles is not None:
        from .matmul_triton import matmul, narrow

        beside = None if branch is None else (narrow(codes, branch.down, scale, branch.scale), branch.up)
        return matmul(codes, weight, scale, weight_scale, bias, beside, tiles)
    out = _library_product(codes, weight, scale, weight_scale, bias)
    return out if branch is None else out.addmm_(_library_product(codes, branch.down, scale, branch.scale, None), branch.up.t())


def _library_product(codes: Tensor, weight: Tensor, scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    tokens = codes.shape[0]
    if tokens < FEWEST_ROWS and codes.is_cuda:
        codes = torch.nn.functional.pad(codes, (0, 0, 0, FEWEST_ROWS - tokens))
    sums = torch._int_mm(codes, weight.t())[:tokens]
    if _kernels(codes):
        from .product_triton import scaled

        return scaled(sums, scale, weight_scale, bias)
    out = sums.float() * scale * weight_scale.view(1, -1)
    return (out if bias is None else out + bias.float()).to(torch.bfloat16)


@lru_cache
def _tiles(device: torch.device) -> Tiles | None:
    """How the hand-written product runs here: the fastest of its tiles that give PyTorch's result; None where PyTorch's product is faster, or none runs.

    Raises nothing: a compiler may fail in any way. Called once per device, between a load and the first step; a few seconds where nothing is compiled yet."""
    from .matmul_triton import SMALL, WIDE, matmul

    make = torch.Generator(device).manual_seed(0)
    codes, weight = (
        torch.randint(-127, 128, shape, dtype=torch.int8, device=device, generator=make) for shape in ((2048, 2048), (4096, 2048))
    )
    scale, weight_scale = (torch.rand(count, 1, device=device, generator=make) * 1e-4 for count in (2048, 4096))
    parts = (codes, weight, scale, weight_scale, None)
    expected = _library_product(*parts)
    best, least = None, device_milliseconds(lambda: _library_product(*parts))
    for tiles in (WIDE, SMALL):
        try:
            if torch.equal(matmul(*parts, tiles=tiles), expected):
                took = device_milliseconds(lambda tiles=tiles: matmul(*parts, tiles=tiles))
                best, least = (tiles, took) if took < least else (best, least)
        except Exception as error:  # too much shared memory for this card, or a compiler that fails
            log.info("the int8 product with tiles %s does not run here (%s)", tiles, type(error).__name__)
    log.info("int8 products: %s", "PyTorch's" if best is None else f"tiles {tuple(best)}")
    return best


def _kernels(value: Tensor) -> bool:
    """Whether the hand-written kernels run here. Inside torch.compile the compiler makes its own of the same operations."""
    if not value.is_cuda or torch.compiler.is_compiling():
        return False
    from ..weights.merge import triton_works

    return torch.version.hip is None and triton_works(value.device)
