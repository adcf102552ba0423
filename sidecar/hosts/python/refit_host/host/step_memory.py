"""The tensors of a step in host memory: those of the frame where they are, those of a segment read into memory that is kept for the next step."""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor

from ..checked.tensor_frame import PlacedTensor
from ..failure import HostFailure
from ..shared.memory import SharedMemory
from ..weights.host_memory import host_arena
from ..wire.frames import Tensors, WireTensor
from ..wire.segments import SegmentFolder
from .tensors import from_wire

# Residuals of SDXL at 2048 squared, batch 2, are 430 MB. A step with more gets memory of its own.
KEEP_BYTES = 1 << 30
# Grown in steps, so that a picture a little larger does not pin all of it again.
GRAIN_BYTES = 16 << 20


class StepMemory:
    """One step at a time: the tensors of the last one are overwritten by the next. Pinned for a GPU, so that they reach it at full speed."""

    def __init__(self, device: torch.device, shared: SharedMemory | None = None) -> None:
        self._device, self._shared = device, shared or SharedMemory(None)
        self._folder: SegmentFolder | None = None
        self._kept: Tensor | None = None

    def use(self, folder: str | None) -> bool:
        """Takes the folder that hello named; whether segments are read from now on."""
        if self._folder is not None:
            self._folder.close()
        self._folder = None if folder is None else SegmentFolder.open(folder)
        return self._folder is not None

    def inputs(self, tensors: Tensors, params: Mapping[str, Any]) -> dict[str, Tensor]:
        """Tensors by name; those in shared memory of the device where they lie. Raises HOST_INVALID_PARAMS, HOST_SEGMENT_REFUSED, HOST_SEGMENT_SHORT, HOST_SEGMENT_STALE."""
        names = params.get("segments", [])
        placed: list[PlacedTensor] = []
        out = {tensor.name: from_wire(tensor) for tensor in tensors if isinstance(tensor, WireTensor)}
        for tensor in tensors:
            if isinstance(tensor, PlacedTensor):
                name = names[tensor.segment] if tensor.segment < len(names) else None
                if isinstance(name, str) and self._shared.is_name(name):
                    out[tensor.name] = self._shared.tensor(name, tensor)
                else:
                    placed.append(tensor)
        if not placed:
            return out
        if self._folder is None:
            raise HostFailure(
                "HOST_SEGMENT_REFUSED",
                "this host reads no segments: hello named no folder of them that it can open; send the tensors in the frame",
            )
        views = self._folder.read(names, placed, self._take)
        return {
            **out,
            **{tensor.name: from_wire(WireTensor(tensor.name, tensor.dtype, tensor.shape, view)) for tensor, view in zip(placed, views)},
        }

    def _take(self, nbytes: int) -> memoryview:
        if nbytes > KEEP_BYTES:
            return _bytes_of(torch.empty(nbytes, dtype=torch.uint8))
        if self._kept is None or self._kept.numel() < nbytes:
            self._kept = None  # the old block first, or both are held at once
            self._kept = self._block(max(1, -(-nbytes // GRAIN_BYTES)) * GRAIN_BYTES)
        return _bytes_of(self._kept)

    def _block(self, nbytes: int) -> Tensor:
        try:
            return host_arena(nbytes, self._device)
        except HostFailure:
            # Memory that the driver refuses to pin serves too, only slower.
            return torch.empty(nbytes, dtype=torch.uint8)

    def release(self) -> None:
        """Gives the kept memory back; the next step that needs some takes it again."""
        self._kept = None


def _bytes_of(block: Tensor) -> memoryview:
    return memoryview(block.numpy())
