"""Reads a safetensors header with its limits checked before anything is allocated."""

from __future__ import annotations

from ..checked.tensor_header import Entry, Header, HeaderError, header_length, parse_header

__all__ = ["Entry", "Header", "HeaderError", "read_header", "read_tensor"]


def read_header(path: str) -> Header:
    """Raises HeaderError for a file that breaks the format, OSError for one that cannot be read."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return parse_header(file.read(header_length(file.read(8), size)), size)


def read_tensor(path: str, entry: Entry) -> bytes:
    with open(path, "rb") as file:
        file.seek(entry.begin)
        data = file.read(entry.end - entry.begin)
    if len(data) != entry.end - entry.begin:
        raise HeaderError("TRUNCATED", "the file ended while a tensor was read")
    return data
