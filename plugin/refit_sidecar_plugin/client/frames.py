"""Tensor frames (docs/develop/internals.md): one JSON-RPC message and its tensors in one binary message. Standard library only."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..checked import tensor_frame
from ..checked.tensor_frame import ALIGN, MAGIC, PlacedTensor, byte_count
from ..checked.tensor_frame import padded as pad
from .errors import SidecarError

_PREFIX = struct.Struct("<4sBBHIIQ40x")
# A header of a frame's own limit; a payload larger than this never fits a message of the WebSocket.
_MAX_HEADER_BYTES = 64 << 20
_MAX_PAYLOAD_BYTES = 1 << 30


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


def buffer_of(tensor: TensorLike) -> memoryview:
    """The tensor's bytes without a copy. Raises ValueError when its data is not contiguous or not of the shape's size."""
    view = memoryview(tensor.data)
    if not view.c_contiguous:
        raise ValueError(f"tensor {tensor.name} is not contiguous")
    # An empty view has no cast in some shapes; there is nothing to send either way.
    flat = view.cast("B") if view.nbytes else memoryview(b"")
    if flat.nbytes != byte_count(tensor.dtype, tensor.shape):
        raise ValueError(f"tensor {tensor.name}: {flat.nbytes} bytes are not {tensor.dtype} {list(tensor.shape)}")
    return flat


def dump(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def lay_out(tensors: Sequence[TensorLike], start: int = 0, segment: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Descriptors for tensors one after the other from ``start``, each on a multiple of 64, and where the last one ends."""
    rows = []
    end = start
    for tensor in tensors:
        offset, size = pad(end), byte_count(tensor.dtype, tensor.shape)
        end = offset + size
        row = {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "offset": offset, "bytes": size}
        rows.append(row if segment is None else {**row, "segment": segment})
    return rows, end


def encode_frame(message: Mapping[str, Any], tensors: Sequence[TensorLike], placed: Sequence[PlacedTensor] = ()) -> bytearray:
    """One frame in one buffer. The tensors become ``tensors`` of the message's ``params``, after those that lie in a segment."""
    rows, end = lay_out(tensors)
    every = [*(one.row() for one in placed), *rows]
    header = dump({**message, "params": {**message.get("params", {}), "tensors": every}})
    start = ALIGN + pad(len(header))
    frame = bytearray(start + end)
    _PREFIX.pack_into(frame, 0, MAGIC, 1, 0, len(every), len(header), 0, end)
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
        return tensor_frame.read_message(text.encode() if isinstance(text, str) else bytes(text))
    except (tensor_frame.FrameError, UnicodeEncodeError):
        raise _bad("a JSON object in UTF-8") from None


def descriptors(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checked descriptors of a reply."""
    try:
        rows = tensor_frame.read_descriptors(message)
    except tensor_frame.FrameError as error:
        raise _bad(str(error)) from None
    return [_row(one) for one in rows]


def _row(one: tensor_frame.Descriptor) -> dict[str, Any]:
    row = {"name": one.name, "dtype": one.dtype, "shape": list(one.shape), "offset": one.offset, "bytes": one.bytes}
    return row if one.segment is None else {**row, "segment": one.segment}


def decode_frame(frame: bytes | bytearray | memoryview) -> tuple[dict[str, Any], list[Tensor]]:
    """Message and tensors of exactly one frame; the tensors are views of it."""
    view = memoryview(frame)
    try:
        prefix = tensor_frame.read_prefix(view, _MAX_HEADER_BYTES, _MAX_PAYLOAD_BYTES)
        start = ALIGN + prefix.padded_header
        if view.nbytes != start + prefix.payload_bytes:
            raise tensor_frame.FrameError("FRAME_TRUNCATED", f"expected a frame of {start + prefix.payload_bytes} bytes, got {view.nbytes}")
        message, rows = tensor_frame.assemble(prefix, view[ALIGN:start], view[start:])
    except tensor_frame.FrameError as error:
        raise _bad(f"{error} [{error.code}]") from None
    return message, [Tensor(one.name, one.dtype, one.shape, data) for one, data in rows if data is not None]
