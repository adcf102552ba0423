"""Just enough of the tensor frame (docs/develop/internals.md) to pair a call with its answer, and to change the paths in one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from refit_host.checked.tensor_frame import PREFIX_BYTES, Prefix, padded, read_message, read_prefix
from refit_host.wire.frames import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES


def _prefix(head: bytes) -> Prefix:
    return read_prefix(head, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES)


def message_of(frame: bytes) -> dict[str, Any]:
    """The frame's JSON-RPC message. Raises FrameError."""
    prefix = _prefix(frame[:PREFIX_BYTES])
    return read_message(memoryview(frame)[PREFIX_BYTES : PREFIX_BYTES + prefix.header_bytes])


def with_message(frame: bytes, message: dict[str, Any]) -> bytes:
    """The same frame with another message; its tensors stay as they are."""
    old = _prefix(frame[:PREFIX_BYTES])
    header = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    head = frame[:8] + len(header).to_bytes(4, "little") + frame[12:PREFIX_BYTES]
    return b"".join((head, header, bytes(padded(len(header)) - len(header)), memoryview(frame)[PREFIX_BYTES + old.padded_header :]))


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next whole frame; None where the stream ends. Raises FrameError."""
    try:
        head = await reader.readexactly(PREFIX_BYTES)
        prefix = _prefix(head)
        return head + await reader.readexactly(prefix.padded_header + prefix.payload_bytes)
    except asyncio.IncompleteReadError:
        return None
