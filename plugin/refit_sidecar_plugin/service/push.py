"""Sends adapters by content, once per connection."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable

from ..client import SidecarError, Tensor
from ..engine import Link
from ..stack import ContentItem, FileItem, content_tensors

# Stays well below the sidecar's limit for one message; larger tensors go alone.
FRAME_BYTES = 32 << 20
_WIRE = {"F32": "f32", "F16": "f16", "BF16": "bf16", "I64": "i64", "U8": "u8"}


class Pusher:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._sent: dict[str, str] = {}

    def forget(self) -> None:
        """After a reconnection the sidecar may be another one."""
        self._sent.clear()

    def push(self, item: ContentItem | FileItem, check: Callable[[], None]) -> str:
        """The adapter's SHA-256 at the sidecar. Raises NotExpressible, SidecarError, or what `check` raises."""
        tensors = content_tensors(item)
        digest = hashlib.sha256()
        for name, dtype, shape, data in tensors:
            digest.update(f"{name}\t{dtype}\t{shape}\n".encode())
            digest.update(data)
        known = self._sent.get(digest.hexdigest())
        if known is None:
            known = self._sent[digest.hexdigest()] = self._send(tensors, check)
        return known

    def _send(self, tensors: list, check: Callable[[], None]) -> str:
        frames: list[list[Tensor]] = [[]]
        size = 0
        for name, dtype, shape, data in tensors:
            wire = _WIRE.get(dtype)
            if wire is None:
                raise SidecarError(
                    "CLIENT_PROTOCOL", f"An adapter tensor of type {dtype} cannot be sent by content.", "Put its file into a loras folder."
                )
            if frames[-1] and size + len(data) > FRAME_BYTES:
                frames.append([])
                size = 0
            frames[-1].append(Tensor(name, wire, shape, data))
            size += len(data)
        push, adapter = uuid.uuid4().hex, {}
        for number, frame in enumerate(frames, 1):
            params = {"push": push, "name": "from the workflow", "last": number == len(frames)}
            adapter = self._link.call("adapter.push", params, frame, check=check).result["adapter"]
        return adapter["sha256"]
