"""Reads a safetensors header with its limits checked before anything is allocated."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

# Same caps as the sidecar: the format's own limit for headers; dims beyond 2**40 elements are nobody's weight.
MAX_HEADER_BYTES = 100_000_000
MAX_ELEMENTS = 1 << 40

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


class HeaderError(ValueError):
    """The file is no safetensors file that may be used. The text names the rule, never the path."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: dtype as the file spells it, shape, and its byte range from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    entries: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: str) -> Header:
    """Raises HeaderError for a file that breaks the format, OSError for one that cannot be read."""
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise HeaderError("the file is shorter than a safetensors header")
        length = int.from_bytes(start, "little")
        if length > MAX_HEADER_BYTES:
            raise HeaderError(f"the header says {length} bytes; a safetensors header has at most {MAX_HEADER_BYTES} (is this a pickle file?)")
        text = file.read(length)
        size = file.seek(0, 2)
    if len(text) < length:
        raise HeaderError("the file ends inside its header")
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise HeaderError("the header is not JSON in UTF-8") from error
    if not isinstance(raw, dict):
        raise HeaderError("the header is not a JSON object")
    metadata = raw.pop("__metadata__", None) or {}
    entries = {name: _entry(name, value, 8 + length, size) for name, value in raw.items()}
    return Header(entries, metadata if isinstance(metadata, dict) else {})


def _entry(name: str, value: object, data_start: int, size: int) -> Entry:
    try:
        dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]  # type: ignore[index]
        item = ITEM_BYTES.get(dtype)
        numbers_ok = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError) as error:
        raise HeaderError(f"tensor {name!r} lacks dtype, shape or data_offsets") from error
    if not numbers_ok or begin > end or data_start + end > size:
        raise HeaderError(f"tensor {name!r} lies outside the file")
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS or (item is not None and elements * item != end - begin):
        raise HeaderError(f"tensor {name!r} has {end - begin} bytes, which its shape and dtype do not give")
    return Entry(dtype, shape, data_start + begin, data_start + end)


def read_tensor(path: str, entry: Entry) -> bytes:
    with open(path, "rb") as file:
        file.seek(entry.begin)
        data = file.read(entry.end - entry.begin)
    if len(data) != entry.end - entry.begin:
        raise HeaderError("the file ended while a tensor was read")
    return data
