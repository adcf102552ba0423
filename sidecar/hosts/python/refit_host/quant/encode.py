"""Quantises into memory that is there: by one kernel where the device has one for the format, else by the reference."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Mapping

import torch
from torch import Tensor

from ..weights.merge import triton_works
from .formats import FORMATS, Format

log = logging.getLogger("refit_host")
# Triton writes e4m3 from Ada on, int8 everywhere it works.
CAPABILITIES = {"fp8": (8, 9), "int8": (7, 5)}


def _could(name: str, device: torch.device) -> bool:
    return (
        name in CAPABILITIES and triton_works(device) and torch.version.hip is None and torch.cuda.get_device_capability(device) >= CAPABILITIES[name]
    )  # fmt: skip


@lru_cache
def has_kernel(name: str, device: torch.device) -> bool:
    """Whether fp8 rows have a kernel on this device, and it gives the reference's bits here."""
    if name != "fp8" or not _could(name, device):
        return False
    from .encode_triton import encode_into as launch

    value = _rows(device)
    expected = FORMATS[name].encode(value)
    got = {part: torch.empty_like(tensor) for part, tensor in expected.items()}
    return _same(name, lambda: launch(value, got["codes"], got["scale"]), expected, got)


@lru_cache
def has_merge(name: str, device: torch.device) -> bool:
    """Whether merge and codes can be one launch on this device, and it gives the reference's bits for a base without adapters, in both kinds of base."""
    if not _could(name, device):
        return False
    import numpy as np

    from ..weights.table import JOB, PRODUCT, MergeTable
    from . import merge_triton

    form, value = FORMATS[name], _rows(device).bfloat16()
    expected = form.encode(value.float())
    rows, cols = value.shape
    table = MergeTable(np.array([(0, 0, rows, cols, 0, 0)], JOB), np.zeros(0, PRODUCT))
    flat = torch.cat([expected["codes"].view(torch.uint8).flatten(), expected["scale"].view(torch.uint8).flatten()])
    for base, scale in ((value.view(torch.uint8).flatten(), -1), (flat, rows * cols)):
        live = torch.empty_like(flat)
        got = {
            "codes": live[: rows * cols].view(form.code).view(rows, cols),
            "scale": live[rows * cols :].view(torch.float32).view(rows, 1),
        }

        def launch(base: Tensor = base, scale: int = scale, live: Tensor = live) -> None:
            merge_triton.run(merge_triton.prepare(form, table, {0: (0, scale, 0, rows * cols)}, [], device), live, base)

        if not _same(f"{name} merge", launch, expected, got):
            return False
    return True


def _rows(device: torch.device) -> Tensor:
    make = torch.Generator(device).manual_seed(0)
    value = torch.randn(64, 1040, device=device, generator=make) * torch.logspace(-30, 30, 64, device=device)[:, None]
    value[7] = 0
    return value


def _same(what: str, launch, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> bool:
    try:
        launch()
        same = all(torch.equal(got[part].view(torch.uint8), tensor.view(torch.uint8)) for part, tensor in expected.items())
    except Exception as error:  # a compiler may fail in any way
        log.warning("the %s kernel failed (%s); PyTorch's operations quantise instead", what, type(error).__name__)
        return False
    if not same:
        log.warning("the %s kernel gives other codes than the reference; PyTorch's operations quantise instead", what)
    return same


def encode_into(form: Format, value: Tensor, parts: Mapping[str, Tensor]) -> None:
    """Codes and scales of `value` (f32 [rows, cols], finite) into `parts`."""
    if has_kernel(form.name, value.device):
        from .encode_triton import encode_into as launch

        launch(value.contiguous(), parts["codes"], parts["scale"])
        return
    for name, encoded in form.encode(value).items():
        parts[name].copy_(encoded)
