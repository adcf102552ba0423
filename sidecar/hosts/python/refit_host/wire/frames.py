"""Tensor frame codec (docs/internals.md, "Tensor frame"): one JSON-RPC message and its tensors, self-delimiting."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterable, Mapping

from ..failure import HostFailure, expect

MAGIC = b"RFT1"
PREFIX = struct.Struct("<4sBBHI4xQ40x")
ALIGN = 64
# A header carries a checkpoint's whole parameter table (Flux: 0.2 MB); 64 MiB leaves room and stops a corrupt length.
MAX_HEADER_BYTES = 64 << 20
# Wan latents and conditioning stay far below; readBack of a large layer in f32 is the biggest honest payload.
MAX_PAYLOAD_BYTES = 8 << 30
MAX_DIMS = 8
ITEM_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "u8": 1, "i64": 8}


@dataclass(frozen=True)
class WireTensor:
    """A tensor on the wire: row-major little-endian bytes. `dtype` is one of ITEM_BYTES."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


@dataclass(frozen=True)
class PlacedTensor:
    """A tensor whose bytes lie in a shared segment: `segment` counts into the names that the message gives, `offset` from that file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    segment: int
    offset: int

    @property
    def nbytes(self) -> int:
        return _byte_count(self.dtype, self.shape)


Tensors = list[WireTensor | PlacedTensor]


def padded(count: int) -> int:
    """Up to the next multiple of ALIGN."""
    return (count + ALIGN - 1) // ALIGN * ALIGN


def _byte_count(dtype: str, shape: Iterable[int]) -> int:
    count = ITEM_BYTES[dtype]
    for dim in shape:
        count *= dim
    return count


def encode_frame(message: Mapping[str, Any], slot: str | None, tensors: Iterable[WireTensor], placed: Iterable[PlacedTensor] = ()) -> list[bytes | memoryview]:
    """Buffers of one frame, in order. `slot` ("params" or "result") is where the descriptors are put, those of `placed` tensors first."""
    offset = 0
    descriptors: list[dict[str, Any]] = [
        {"name": one.name, "dtype": one.dtype, "shape": list(one.shape), "offset": one.offset, "bytes": one.nbytes, "segment": one.segment} for one in placed
    ]
    payload: list[bytes | memoryview] = []
    end = 0
    for tensor in tensors:
        size = tensor.data.nbytes
        if size != _byte_count(tensor.dtype, tensor.shape):
            raise ValueError(f"{tensor.name}: {size} bytes for {tensor.dtype}{list(tensor.shape)}")
        descriptors.append(
            {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "offset": offset, "bytes": size}
        )
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


def _tensors(message: Mapping[str, Any], payload: memoryview, count: int) -> Tensors:
    body = message.get("params", message.get("result"))
    descriptors = body.get("tensors", []) if isinstance(body, dict) else []
    expect(isinstance(descriptors, list) and len(descriptors) == count, "HOST_MALFORMED_FRAME",
           "the frame's tensor count differs from its descriptors", expected=count)
    out: Tensors = []
    expected = 0
    for item in descriptors:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or item.get("dtype") not in ITEM_BYTES:
            raise _bad("expected a tensor descriptor with a name and a known dtype", dtypes=sorted(ITEM_BYTES))
        shape, offset, size = item.get("shape"), item.get("offset"), item.get("bytes")
        whole = isinstance(shape, list) and len(shape) <= MAX_DIMS
        if not whole or not all(type(v) is int and v >= 0 for v in [*shape, offset, size]):
            raise _bad(f"{item['name']}: shape, offset and bytes must be whole numbers, at most {MAX_DIMS} dimensions")
        if size == _byte_count(item["dtype"], shape) and "segment" in item:
            segment = item["segment"]
            expect(type(segment) is int and segment >= 0 and offset % ALIGN == 0, "HOST_MALFORMED_FRAME",
                   f"{item['name']}: expected the index of a segment and an offset that is a multiple of {ALIGN}")
            out.append(PlacedTensor(item["name"], item["dtype"], tuple(shape), segment, offset))
            continue
        if size != _byte_count(item["dtype"], shape) or offset != padded(expected) or offset + size > payload.nbytes:
            raise _bad(f"{item['name']}: {size} bytes at {offset} do not fit its shape, the tensors before it or the payload")
        expected = offset + size
        out.append(WireTensor(item["name"], item["dtype"], tuple(shape), payload[offset : offset + size]))
    expect(expected == payload.nbytes, "HOST_MALFORMED_FRAME", f"expected the payload to end after its last tensor at {expected} bytes, got {payload.nbytes}")
    expect(len({tensor.name for tensor in out}) == len(out), "HOST_MALFORMED_FRAME", "expected every tensor name once")
    return out


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], Tensors] | None:
    """The next message and its tensors; None at a clean end. Raises HostFailure HOST_MALFORMED_FRAME."""
    prefix = _read_exactly(stream, PREFIX.size)
    if prefix is None:
        return None
    magic, version, reserved, count, header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if magic != MAGIC or version != 1 or reserved != 0:
        raise _bad("expected magic RFT1, version 1; the other side speaks another protocol")
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise _bad("frame too large", headerBytes=header_bytes, payloadBytes=payload_bytes)
    header = _read_exactly(stream, padded(header_bytes))
    payload = _read_exactly(stream, payload_bytes) if payload_bytes else memoryview(b"")
    if header is None or payload is None:
        raise _bad("the pipe ended inside a frame")
    try:
        message = json.loads(bytes(header[:header_bytes]))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _bad("the frame's header is not JSON") from error
    expect(isinstance(message, dict), "HOST_MALFORMED_FRAME", "expected a JSON-RPC object")
    return message, _tensors(message, payload, count)
