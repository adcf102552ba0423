"""What a client shares with this host: blocks of the device by name, tensors in them checked against their size."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from typing import Any, Mapping

import torch
from torch import Tensor

from ..checked.tensor_frame import PlacedTensor, padded
from ..failure import HostFailure, expect
from ..files.dtypes import TORCH_OF_WIRE, WIRE_OF_TORCH
from ..wire import protocol
from .medium import Block, Medium, bell_of

log = logging.getLogger("refit_host")
# Tells a name of these from a file's, which the sidecar makes without a dash in front.
PREFIX = "shared-"
# SDXL's residuals at 1024 squared, batch 2, are 107 MB; of all clients together.
MAX_BYTES = 1 << 30
GRAIN_BYTES = 2 << 20
NONCE_BYTES = 32


class SharedMemory:
    """In the live lane: no step uses a block while it is made or given back."""

    def __init__(self, medium: Medium | None) -> None:
        self.medium = medium
        self._blocks: dict[str, Block] = {}
        self._bells: dict[str, Block] = {}

    def offer(self) -> dict[str, Any]:
        """What hello says of it."""
        return {} if self.medium is None else {"shares": {"medium": self.medium.name, "device": self.medium.device}}

    @property
    def nbytes(self) -> int:
        return sum(block.memory.numel() for block in self._blocks.values())

    def share(self, params: protocol.ShareParams) -> dict[str, Any]:
        """Raises HOST_SHARE_REFUSED with the reason, in words for a person."""
        medium, nbytes = self.medium, params["bytes"]
        if medium is None:
            raise _refused("this engine host shares no memory of its device")
        if params["medium"] != medium.name:
            raise _refused("the UI draws on another kind of device than the engine")
        if params["device"] != medium.device:
            raise _refused("the UI draws on another device than the engine")
        size = max(1, -(-nbytes // GRAIN_BYTES)) * GRAIN_BYTES
        if self.nbytes + size > MAX_BYTES:
            raise _refused(f"clients share {self.nbytes >> 20} MiB of the device already, and may share {MAX_BYTES >> 20}")
        try:
            block = medium.allocate(size)
        except (OSError, RuntimeError) as error:
            raise _refused(f"no memory of the device could be shared ({error})") from error
        nonce = secrets.token_bytes(NONCE_BYTES)
        block.memory[:NONCE_BYTES].copy_(torch.frombuffer(bytearray(nonce), dtype=torch.uint8))
        medium.settle()
        name = PREFIX + secrets.token_hex(16)
        self._blocks[name] = block
        bell = bell_of()
        if bell is not None:
            self._bells[name] = bell
        more = {} if bell is None else {"bell": base64.b64encode(bell.handle).decode()}
        return {**more, "name": name, "bytes": block.memory.numel(), "handle": base64.b64encode(block.handle).decode(),
                "proof": hashlib.sha256(nonce).hexdigest()}  # fmt: skip

    def unshare(self, name: str) -> int:
        block = self._blocks.pop(name, None)
        if block is None:
            return 0
        nbytes = block.memory.numel()
        block.release()
        bell = self._bells.pop(name, None)
        if bell is not None:
            bell.release()
        return nbytes

    def ring(self, place: Mapping[str, Any]) -> None:
        """Tells whoever looks at the block's bell that the output of its step is there."""
        bell = self._bells.get(place["segment"])
        if bell is not None and "bell" in place:
            bell.memory[:8].view(torch.int64)[0] = place["bell"]

    @staticmethod
    def is_name(name: str) -> bool:
        return name.startswith(PREFIX)

    def tensor(self, name: str, placed: PlacedTensor) -> Tensor:
        """Where it lies, without a copy. Raises HOST_SEGMENT_STALE, HOST_SEGMENT_SHORT."""
        return self._view(name, placed.offset, placed.nbytes).view(TORCH_OF_WIRE[placed.dtype]).view(placed.shape)

    def check_reply(self, place: Mapping[str, Any] | None) -> None:
        """Before the step: a range that is not there would lose its output. Raises HOST_SEGMENT_STALE, HOST_SEGMENT_SHORT."""
        if place is not None:
            self._view(place["segment"], place["offset"], place["bytes"])

    def leave(self, outputs: Mapping[str, Tensor], place: Mapping[str, Any] | None) -> tuple[list[PlacedTensor], dict[str, Tensor]]:
        """Writes outputs where the call wants them, each on a multiple of 64. Returns those, and what has to go another way."""
        if place is None or self.medium is None:
            return [], dict(outputs)
        end, rows = place["offset"], []
        for name, value in outputs.items():
            start = padded(end)
            end = start + value.nbytes
            rows.append(PlacedTensor(name, WIRE_OF_TORCH.get(value.dtype, ""), tuple(value.shape), 0, start))
        if end > place["offset"] + place["bytes"] or any(not row.dtype for row in rows):
            return [], dict(outputs)
        for row, value in zip(rows, outputs.values()):
            self.tensor(place["segment"], row).copy_(value)
        return rows, {}

    def settle(self) -> None:
        if self.medium is not None:
            self.medium.settle()

    def _view(self, name: str, offset: int, nbytes: int) -> Tensor:
        block = self._blocks.get(name)
        if block is None:
            raise HostFailure("HOST_SEGMENT_STALE", "this host process does not have the device segment that the step names (any more)")
        expect(
            offset % 64 == 0 and offset + nbytes <= block.memory.numel(),
            "HOST_SEGMENT_SHORT",
            f"expected a range on a multiple of 64 inside the {block.memory.numel()} bytes of the device segment",
        )
        return block.memory[offset : offset + nbytes]


def _refused(reason: str) -> HostFailure:
    return HostFailure("HOST_SHARE_REFUSED", reason)
