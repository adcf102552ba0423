"""Tensor frame codec (docs/develop/internals.md, "Tensor frame"): one JSON-RPC message and its tensors, self-delimiting."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterable, Mapping

from ..checked import tensor_frame
from ..checked.tensor_frame import MAGIC, PlacedTensor, byte_count, padded
from ..failure import HostFailure

PREFIX = struct.Struct("<4sBBHI4xQ40x")
# A header carries a checkpoint's whole parameter table (0.2 MB for 800 parameters); 64 MiB leaves room and stops a corrupt length.
MAX_HEADER_BYTES = 64 << 20
# Wan latents and conditioning stay far below; readBack of a large layer in f32 is the biggest honest payload.
MAX_PAYLOAD_BYTES = 8 << 30


@dataclass(frozen=True)
class WireTensor:
    """A tensor on the wire: row-major little-endian bytes. `dtype` is one of those of a frame."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


Tensors = list[WireTensor | PlacedTensor]


def encode_frame(
    message: Mapping[str, Any], slot: str | None, tensors: Iterable[WireTensor], placed: Iterable[PlacedTensor] = ()
) -> list[bytes | memoryview]:
    """Buffers of one frame, in order. `slot` ("params" or "result") is where the descriptors are put, those of `placed` tensors first."""
    offset = 0
    descriptors = [one.row() for one in placed]
    payload: list[bytes | memoryview] = []
    end = 0
    for tensor in tensors:
        size = tensor.data.nbytes
        if size != byte_count(tensor.dtype, tensor.shape):
            raise ValueError(f"{tensor.name}: {size} bytes for {tensor.dtype}{list(tensor.shape)}")
        descriptors.append({"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "offset": offset, "bytes": size})
        payload += [bytes(offset - end), tensor.data]
        end = offset + size
        offset = padded(end)
    body = dict(message)
    if slot is not None:
        body[slot] = {**body.get(slot, {}), "tensors": descriptors}
    header = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    prefix = PREFIX.pack(MAGIC, 1, 0, len(descriptors), len(header), end)
    return [prefix, header, bytes(padded(len(header)) - len(header)), *payload]


def _bad(message: str, **evidence: Any) -> HostFailure:
    return HostFailure("HOST_MALFORMED_FRAME", message, evidence)


def _read_exactly(stream: BinaryIO, count: int) -> memoryview | None:
    """`count` bytes, or None at a clean end of the stream. A cut inside a frame raises HOST_MALFORMED_FRAME."""
    buffer = bytearray(count)
    view = memoryview(buffer)
    done = 0
    while done < count:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            if done == 0:
                return None
            raise _bad(f"expected {count} bytes of a frame; the pipe ended after {done}")
        done += got
    return view


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], Tensors] | None:
    """The next message and its tensors; None at a clean end. Raises HostFailure HOST_MALFORMED_FRAME."""
    head = _read_exactly(stream, PREFIX.size)
    if head is None:
        return None
    try:
        prefix = tensor_frame.read_prefix(head, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES)
        header = _read_exactly(stream, prefix.padded_header) if prefix.header_bytes else memoryview(b"")
        payload = _read_exactly(stream, prefix.payload_bytes) if prefix.payload_bytes else memoryview(b"")
        if header is None or payload is None:
            raise _bad("the pipe ended inside a frame")
        message, rows = tensor_frame.assemble(prefix, header, payload)
    except tensor_frame.FrameError as error:
        raise _bad(str(error), reason=error.code) from error
    tensors: Tensors = []
    for one, data in rows:
        if data is None:
            tensors.append(PlacedTensor(one.name, one.dtype, one.shape, one.segment or 0, one.offset))
        else:
            tensors.append(WireTensor(one.name, one.dtype, one.shape, data))
    return message, tensors
