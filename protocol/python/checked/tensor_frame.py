"""The tensor frame (docs/develop/internals.md): 64 bytes of prefix, one JSON-RPC message, tensors. Same rules and codes as protocol/src/frame."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ALIGN = 64
PREFIX_BYTES = 64
MAGIC = b"RFT1"
VERSION = 1
MAX_DIMENSIONS = 8
MAX_NAME = 512
MAX_WHOLE = 2**53 - 1
ITEM_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "u8": 1, "i64": 8}

_PREFIX = struct.Struct("<4sBBHIIQ40s")


class FrameError(ValueError):
    """The bytes are no frame. `code` is one of the FRAME_… codes of the protocol."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Prefix:
    tensors: int
    header_bytes: int
    payload_bytes: int

    @property
    def padded_header(self) -> int:
        return padded(self.header_bytes)


@dataclass(frozen=True)
class Descriptor:
    """A checked tensor descriptor. `segment` is None for a tensor in the frame's payload."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    bytes: int
    segment: int | None


@dataclass(frozen=True)
class PlacedTensor:
    """A tensor whose bytes lie in a segment: `segment` counts into what the message or the session names, `offset` is in bytes from its start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    segment: int
    offset: int

    @property
    def nbytes(self) -> int:
        return byte_count(self.dtype, self.shape)

    def row(self) -> dict[str, Any]:
        """Its descriptor."""
        place = {"offset": self.offset, "bytes": self.nbytes, "segment": self.segment}
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), **place}


def byte_count(dtype: str, shape: Iterable[int]) -> int:
    """Of a tensor without gaps. `dtype` is one of ITEM_BYTES."""
    count = ITEM_BYTES[dtype]
    for dimension in shape:
        count *= dimension
    return count


def padded(count: int) -> int:
    """Up to the next multiple of ALIGN."""
    return -(-count // ALIGN) * ALIGN


def read_prefix(prefix: bytes | memoryview, max_header: int, max_payload: int) -> Prefix:
    """Raises FrameError."""
    if len(prefix) < PREFIX_BYTES:
        raise FrameError("FRAME_TRUNCATED", f"expected at least {PREFIX_BYTES} bytes, got {len(prefix)}")
    magic, version, reserved, count, header_bytes, reserved_word, payload_bytes, rest = _PREFIX.unpack(bytes(prefix[:PREFIX_BYTES]))
    if magic != MAGIC:
        raise FrameError("FRAME_BAD_MAGIC", 'expected a frame that starts with "RFT1"; the other side does not speak this protocol')
    if version != VERSION:
        raise FrameError("FRAME_BAD_VERSION", f"expected frame version {VERSION}, got {version}; update the older side")
    if reserved or reserved_word or any(rest):
        raise FrameError("FRAME_RESERVED_SET", "expected zeros in the reserved bytes of a frame; the other side uses an unknown extension")
    if header_bytes > max_header:
        raise FrameError("FRAME_HEADER_TOO_LARGE", f"expected a header of at most {max_header} bytes, got {header_bytes}")
    if payload_bytes > max_payload:
        raise FrameError("FRAME_PAYLOAD_TOO_LARGE", f"expected a payload of at most {max_payload} bytes, got {payload_bytes}")
    return Prefix(count, header_bytes, payload_bytes)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def read_message(text: bytes | memoryview) -> dict[str, Any]:
    """One JSON object in strict UTF-8. Raises FrameError FRAME_HEADER_INVALID."""
    try:
        message = json.loads(bytes(text).decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise FrameError("FRAME_HEADER_INVALID", "expected the header to be UTF-8 JSON") from None
    if not isinstance(message, dict):
        raise FrameError("FRAME_HEADER_INVALID", "expected the header to be a JSON object (one JSON-RPC message)")
    return message


def _whole(value: Any) -> int | None:
    """A whole number of JSON: `4` and `4.0` are one number."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_WHOLE else None


def _name_length(name: str) -> int:
    return len(name) if name.isascii() else len(name.encode("utf-16-le", "surrogatepass")) // 2


def read_descriptor(value: Any, index: int) -> Descriptor:
    """Raises FrameError FRAME_TENSOR_INVALID."""

    def bad(expected: str) -> FrameError:
        return FrameError("FRAME_TENSOR_INVALID", f"tensor {index}: expected {expected}")

    if not isinstance(value, dict):
        raise bad("an object {name, dtype, shape, offset, bytes}")
    name, dtype, shape = value.get("name"), value.get("dtype"), value.get("shape")
    if not isinstance(name, str) or not 0 < _name_length(name) <= MAX_NAME:
        raise bad(f"a name of 1 to {MAX_NAME} characters")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise bad(f"dtype to be one of {', '.join(ITEM_BYTES)}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise bad(f"shape to be a list of at most {MAX_DIMENSIONS} dimensions")
    size: int = ITEM_BYTES[dtype]
    dims: list[int] = []
    for dimension in shape:
        # Most are plain, and there are dozens in a step.
        whole = dimension if type(dimension) is int and 0 <= dimension <= MAX_WHOLE else _whole(dimension)
        if whole is None or size * whole > MAX_WHOLE:
            raise bad("dimensions that are whole numbers with a product below 2^53")
        size *= whole
        dims.append(whole)
    if _whole(value.get("bytes")) != size:
        raise bad(f"{size} bytes for {dtype} {dims}")
    offset = _whole(value.get("offset"))
    if offset is None or offset % ALIGN:
        raise bad(f"an offset that is a multiple of {ALIGN}")
    segment = None
    if "segment" in value:
        segment = _whole(value["segment"])
        if segment is None:
            raise bad("segment to be an index")
    return Descriptor(name, dtype, tuple(dims), offset, size, segment)


def read_descriptors(message: Mapping[str, Any], count: int | None = None) -> list[Descriptor]:
    """The checked descriptors of a message, in order; `count` is what a frame's prefix says. Raises FrameError FRAME_TENSOR_INVALID."""
    result, params = message.get("result"), message.get("params")
    holder = result if isinstance(result, dict) else params if isinstance(params, dict) else {}
    rows = holder.get("tensors")
    if rows is None:
        rows = []
    if not isinstance(rows, list):
        raise FrameError("FRAME_TENSOR_INVALID", "expected tensors to be a list of descriptors")
    if count is not None and len(rows) != count:
        raise FrameError("FRAME_TENSOR_INVALID", f"expected {count} tensor descriptors in the message, as the frame's prefix says")
    descriptors = [read_descriptor(row, index) for index, row in enumerate(rows)]
    if len({one.name for one in descriptors}) != len(descriptors):
        raise FrameError("FRAME_TENSOR_INVALID", "expected every tensor name once")
    return descriptors


def assemble(
    prefix: Prefix, header: bytes | memoryview, payload: memoryview
) -> tuple[dict[str, Any], list[tuple[Descriptor, memoryview | None]]]:
    """Message and descriptors, each with its bytes (None for one in a segment). `header` with its padding. Raises FrameError."""
    if any(header[prefix.header_bytes :]):
        raise FrameError("FRAME_HEADER_INVALID", "expected zeros after the JSON header")
    message = read_message(header[: prefix.header_bytes])
    out: list[tuple[Descriptor, memoryview | None]] = []
    end = 0
    for one in read_descriptors(message, prefix.tensors):
        if one.segment is not None:
            out.append((one, None))
            continue
        if one.offset != padded(end) or one.offset + one.bytes > payload.nbytes:
            raise FrameError(
                "FRAME_TENSOR_INVALID", f"tensor {one.name}: expected it at offset {padded(end)} inside a payload of {payload.nbytes} bytes"
            )
        if any(payload[end : one.offset]):
            raise FrameError("FRAME_TENSOR_INVALID", f"expected zeros between tensors, before {one.name}")
        end = one.offset + one.bytes
        out.append((one, payload[one.offset : end]))
    if end != payload.nbytes:
        raise FrameError("FRAME_TENSOR_INVALID", f"expected the payload to end after its last tensor at {end} bytes, got {payload.nbytes}")
    return message, out
