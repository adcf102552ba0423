"""Weights of an idle engine leave the device and come back as they were; views of their memory, and modules bound to it, stay valid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..failure import expect
from .host_memory import free_bytes


@dataclass(frozen=True)
class Away:
    """A tensor whose device memory was given back. `kept`: its values on the host; None: they can be made again from elsewhere."""

    tensor: Tensor
    nbytes: int
    kept: Tensor | None


def send_away(tensors: list[tuple[Tensor, bool]]) -> list[Away]:
    """Frees the memory of each tensor (a whole storage); with True its values are kept on the host first. Raises HOST_OUT_OF_MEMORY,
    and nothing has moved then."""
    needed = sum(tensor.numel() for tensor, keep in tensors if keep)
    expect(
        free_bytes() >= needed,
        "HOST_OUT_OF_MEMORY",
        "no host memory for the idle weights; they stay on the device",
        bytes=needed,
        freeBytes=free_bytes(),
    )
    copies = [tensor.to("cpu", copy=True) if keep else None for tensor, keep in tensors]
    out = []
    for (tensor, _), kept in zip(tensors, copies):
        out.append(Away(tensor, tensor.untyped_storage().nbytes(), kept))
        tensor.untyped_storage().resize_(0)
    return out


def bring_back(away: list[Away]) -> None:
    """Memory again, and the kept values in it. Raises an out-of-memory error, and everything is away as before then."""
    try:
        for item in away:
            item.tensor.untyped_storage().resize_(item.nbytes)
    except (torch.OutOfMemoryError, RuntimeError):
        for item in away:
            item.tensor.untyped_storage().resize_(0)
        raise
    for item in away:
        if item.kept is not None:
            item.tensor.copy_(item.kept)
