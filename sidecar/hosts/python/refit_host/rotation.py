"""The rotation that some files apply to a matrix before it is rounded (ConvRot): each group of neighbouring columns times a regular Hadamard matrix.

H = kron of [[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], over sqrt(g). It is symmetric and its own inverse, so turning a value twice gives it back, and a
product x W^T may be made of a turned x and a turned W.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

CORE = ((1.0, 1.0, 1.0, -1.0), (1.0, 1.0, -1.0, 1.0), (1.0, -1.0, 1.0, 1.0), (-1.0, 1.0, 1.0, 1.0))


def is_group(size: int) -> bool:
    """Whether there is such a matrix: powers of four."""
    return size >= 4 and size & (size - 1) == 0 and (size.bit_length() - 1) % 2 == 0


@lru_cache
def hadamard(size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """[size, size]; made once per device, because a CUDA graph cannot hold a copy from ordinary host memory."""
    core = torch.tensor(CORE)
    whole = core
    while whole.shape[0] < size:
        whole = torch.kron(whole, core)
    # Powers of two: exact in every float type.
    return (whole * size**-0.5).to(device, dtype)


def rotate(value: Tensor, group: int) -> Tensor:
    """`value` [..., cols] with each group of columns turned, in its own dtype."""
    turned = value.unflatten(-1, (-1, group)) @ hadamard(group, value.device, value.dtype)
    return turned.flatten(-2)
