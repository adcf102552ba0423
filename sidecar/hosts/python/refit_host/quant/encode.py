"""Quantises into memory that is there: by one kernel where the device has one for the format, else by the reference."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from ..weights.merge import triton_works
from .formats import Format

# Triton writes e4m3 from Ada on.
CAPABILITY = (8, 9)


def has_kernel(form: Format, device: torch.device) -> bool:
    return form.name == "fp8" and triton_works(device) and torch.version.hip is None and torch.cuda.get_device_capability(device) >= CAPABILITY


def encode_into(form: Format, value: Tensor, parts: Mapping[str, Tensor]) -> None:
    """Codes and scales of `value` (f32 [rows, cols], finite) into `parts`."""
    if has_kernel(form, value.device):
        from .encode_triton import encode_into as launch

        launch(value.contiguous(), parts["codes"], parts["scale"])
        return
    for name, encoded in form.encode(value).items():
        parts[name].copy_(encoded)
