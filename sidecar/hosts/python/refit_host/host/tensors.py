"""Tensors between the wire and torch."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ..failure import HostFailure
from ..files.dtypes import TORCH_OF_WIRE, WIRE_OF_TORCH
from ..wire.frames import WireTensor


def from_wire(tensor: WireTensor) -> Tensor:
    """A view of the frame's bytes (host memory, valid as long as the tensor lives)."""
    dtype = TORCH_OF_WIRE[tensor.dtype]
    if tensor.data.nbytes == 0:
        return torch.empty(tensor.shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the frame's buffer is writable when it matters
        return torch.frombuffer(tensor.data, dtype=dtype).view(tensor.shape)


def to_wire(name: str, value: Tensor) -> WireTensor:
    """A tensor's bytes, row-major, on the host."""
    if value.dtype not in WIRE_OF_TORCH:
        raise HostFailure("HOST_INTERNAL", f"{name}: {value.dtype} does not travel")
    flat = value.detach().contiguous().cpu().reshape(-1)
    data = memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")
    return WireTensor(name, WIRE_OF_TORCH[value.dtype], tuple(value.shape), data)
