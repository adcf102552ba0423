"""Tensor frames (docs/internals.md): one JSON-RPC message and its tensors in one binary message. Standard library only."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..messages import DTYPE_BYTES
from .errors import SidecarError

ALIGN = 64
_PREFIX = struct.Struct("<4sBBHIIQ40x")
_MAGIC = b"RFT1"
_MAX_DIMENSIONS = 8
_MAX_NAME = 512


class TensorLike(Protocol):
    """A contiguous little-endian tensor. ``data`` is any buffer (bytes, memoryview, numpy array, …) of exactly its bytes."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def data(self) -> Any: ...


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Any


def pad(count: int) -> int:
    return -(-count // ALIGN) * ALIGN


def tensor_bytes(dtype: str, shape: Iterable[int]) -> int:
    count = DTYPE_BYTES[dtype]
    for dimension in shape:
        count *= dimension
    return count


def buffer_of(tensor: TensorLike) -> memoryview:
    """The tensor's bytes without a copy. Raises ValueError when its data is not contiguous or not of the shape's size."""
    view = memoryview(tensor.data)
    if not view.c_contiguous:
        raise ValueError(f"tensor {tensor.name} is not contiguous")
    # An empty view has no cast in some shapes; there is nothing to send either way.
    flat = view.cast("B") if view.nbytes else memoryview(b"")
    if flat.nbytes != tensor_bytes(tensor.dtype, tensor.shape):
        raise ValueError(f"tensor {tensor.name}: {flat.nbytes} bytes are not {tensor.dtype} {list(tensor.shape)}")
    return flat


def dump(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def lay_out(tensors: Sequence[TensorLike], start: int = 0, segment: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Descriptors for tensors one after the other from ``start``, each on a multiple of 64, and where the last one ends."""
    rows = []
    end = start
    for tensor in tensors:
        offset, size = pad(end), tensor_bytes(tensor.dtype, tensor.shape)
        end = offset + size
        row = {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "offset": offset, "bytes": size}
        rows.append(row if segment is None else {**row, "segment": segment})
    return rows, end


def encode_frame(message: Mapping[str, Any], tensors: Sequence[TensorLike]) -> bytearray:
    """One frame in one buffer. The tensors become ``tensors`` of the message's ``params``."""
    rows, end = lay_out(tensors)
    header = dump({**message, "params": {**message.get("params", {}), "tensors": rows}})
    start = ALIGN + pad(len(header))
    frame = bytearray(start + end)
    _PREFIX.pack_into(frame, 0, _MAGIC, 1, 0, len(rows), len(header), 0, end)
    frame[ALIGN : ALIGN + len(header)] = header
    for row, tensor in zip(rows, tensors, strict=True):
        at = start + row["offset"]
        frame[at : at + row["bytes"]] = buffer_of(tensor)
    return frame


def _bad(expected: str) -> SidecarError:
    return SidecarError("CLIENT_PROTOCOL", f"The sidecar sent a malformed frame: expected {expected}.")


def load(text: str | bytes | bytearray | memoryview) -> dict[str, Any]:
    """One JSON object, or CLIENT_PROTOCOL."""
    try:
        value = json.loads(bytes(text) if isinstance(text, memoryview) else text)
    except (ValueError, RecursionError):
        raise _bad("JSON") from None
    if not isinstance(value, dict):
        raise _bad("a JSON object")
    return value


def check_descriptor(value: Any) -> dict[str, Any]:
    """A descriptor whose fields agree with each other, or CLIENT_PROTOCOL."""
    if not isinstance(value, dict):
        raise _bad("tensor descriptors")
    name, dtype, shape, offset, size, segment = (value.get(key) for key in ("name", "dtype", "shape", "offset", "bytes", "segment"))
    counts = [offset, size, *(shape if isinstance(shape, list) else ["no list"])]
    if not all(type(count) is int and 0 <= count < 2**53 for count in counts) or len(counts) > 2 + _MAX_DIMENSIONS:
        raise _bad("a shape, an offset and a size in whole numbers")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise _bad("a tensor name and a known dtype")
    if tensor_bytes(dtype, shape) != size or offset % ALIGN or not (segment is None or type(segment) is int):
        raise _bad("a size that is the shape's, on a multiple of 64")
    return value


def descriptors(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checked descriptors of a reply."""
    result = message.get("result")
    rows = result.get("tensors", []) if isinstance(result, dict) else []
    if not isinstance(rows, list):
        raise _bad("a list of descriptors")
    checked = [check_descriptor(row) for row in rows]
    if len({row["name"] for row in checked}) != len(checked):
        raise _bad("each tensor name once")
    return checked


def decode_frame(frame: bytes | bytearray | memoryview) -> tuple[dict[str, Any], list[Tensor]]:
    """Message and tensors of exactly one frame; the tensors are views of it."""
    view = memoryview(frame)
    if view.nbytes < ALIGN:
        raise _bad("a prefix of 64 bytes")
    magic, version, reserved, count, header_bytes, reserved2, payload_bytes = _PREFIX.unpack_from(view)
    if magic != _MAGIC or version != 1:
        raise _bad("a tensor frame of version 1")
    start = ALIGN + pad(header_bytes)
    if reserved or reserved2 or any(view[24:ALIGN]) or view.nbytes != start + payload_bytes:
        raise _bad("zero reserved bytes and the declared length")
    message = load(view[ALIGN : ALIGN + header_bytes])
    rows = descriptors(message)
    if len(rows) != count:
        raise _bad("as many descriptors as the prefix counts")
    tensors = []
    end = 0
    for row in rows:
        if row.get("segment") is not None:
            continue
        if row["offset"] != pad(end):
            raise _bad("tensors in order without gaps")
        end = row["offset"] + row["bytes"]
        if end > payload_bytes:
            raise _bad("tensors inside the payload")
        tensors.append(Tensor(row["name"], row["dtype"], tuple(row["shape"]), view[start + row["offset"] : start + end]))
    if end != payload_bytes:
        raise _bad("a payload that ends with its last tensor")
    return message, tensors
