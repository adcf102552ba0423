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
# Triton writes e4m3 from Ada on.
CAPABILITY = (8, 9)


@lru_cache
def has_kernel(name: str, device: torch.device) -> bool:
    """Whether the kernel exists for this format and device, and gives the reference's bits here."""
    if name != "fp8" or not triton_works(device) or torch.version.hip is not None or torch.cuda.get_device_capability(device) < CAPABILITY:
        return False
    from .encode_triton import encode_into as launch

    make = torch.Generator(device).manual_seed(0)
    value = torch.randn(64, 1040, device=device, generator=make) * torch.logspace(-30, 30, 64, device=device)[:, None]
    value[7] = 0
    expected = FORMATS[name].encode(value)
    got = {part: torch.empty_like(tensor) for part, tensor in expected.items()}
    try:
        launch(value, got["codes"], got["scale"])
        same = all(torch.equal(got[part].view(torch.uint8), tensor.view(torch.uint8)) for part, tensor in expected.items())
    except Exception as error:  # a compiler may fail in any way
        log.warning("the fp8 kernel failed (%s); PyTorch's operations quantise instead", type(error).__name__)
        return False
    if not same:
        log.warning("the fp8 kernel gives other codes than the reference; PyTorch's operations quantise instead")
    return same


def encode_into(form: Format, value: Tensor, parts: Mapping[str, Tensor]) -> None:
    """Codes and scales of `value` (f32 [rows, cols], finite) into `parts`."""
    if has_kernel(form.name, value.device):
        from .encode_triton import encode_into as launch

        launch(value.contiguous(), parts["codes"], parts["scale"])
        return
    for name, encoded in form.encode(value).items():
        parts[name].copy_(encoded)
