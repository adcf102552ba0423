"""The safetensors container's header: every rule checked before a byte of data is read.

The sidecar has checked these files too; a host checks again because the file may have been replaced since.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failure import HostFailure

# The format's own limit (safetensors reference implementation).
MAX_HEADER_BYTES = 100_000_000
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8,
    "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor. `begin` and `end` are absolute file positions."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    entries: dict[str, Entry]
    metadata: dict[str, str]
    size_bytes: int


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("duplicate key")
    return out


def _entry(info: Any, data: int, size: int) -> Entry:
    begin, end = info["data_offsets"]
    dims = info["shape"]
    item = ITEM_BYTES[info["dtype"]]
    if not all(type(v) is int and v >= 0 for v in [begin, end, *dims]):
        raise ValueError("not whole numbers")
    count = item
    for dim in dims:
        count *= dim
    if end - begin != count or data + end > size:
        raise ValueError("range does not fit shape or file")
    return Entry(info["dtype"], tuple(dims), data + begin, data + end)


def missing(path: Path, error: OSError) -> HostFailure:
    """A file that cannot be opened or looked at."""
    failure = HostFailure("HOST_FILE_MISSING", f"expected a readable file; the system says: {error.strerror}. Put it back, or choose another.", {"name": path.name})
    failure.__cause__ = error
    return failure


def read_header(path: Path) -> Header:
    """Reads and checks a header. Raises HOST_FILE_MISSING, or HOST_FILE_INVALID naming the rule that is broken."""

    def bad(reason: str, cause: Exception | None = None) -> HostFailure:
        failure = HostFailure("HOST_FILE_INVALID", f"expected a complete safetensors file; {reason}. Copy the file again.", {"name": path.name})
        failure.__cause__ = cause
        return failure

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length > MAX_HEADER_BYTES or 8 + length > size:
                raise bad("its header length is larger than the file or the limit")
            raw = file.read(length)
    except OSError as error:
        raise missing(path, error) from error
    try:
        table = json.loads(raw, object_pairs_hook=_pairs)
        metadata = table.pop("__metadata__", {})
        entries = {name: _entry(info, 8 + length, size) for name, info in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise bad(f"its header breaks a rule ({type(error).__name__})", error) from error
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise bad("its metadata is not text")
    position = 8 + length
    for entry in sorted(entries.values(), key=lambda e: (e.begin, e.end)):
        if entry.begin != position:
            raise bad("its tensors overlap or leave a hole")
        position = entry.end
    if position != size:
        raise bad(f"its data ends at {position} of {size} bytes")
    return Header(entries, metadata, size)
