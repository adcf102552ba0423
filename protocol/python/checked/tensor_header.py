"""The safetensors header: every rule checked before a byte of data is read. Same rules and codes as native/ts and native/src/container."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_HEADER_BYTES = 100_000_000
MAX_RANK = 64
MAX_TENSORS = 200_000
MAX_DEPTH = 128
MAX_WHOLE = 2**53 - 1
ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


class HeaderError(ValueError):
    """The file breaks a rule of the container. `code` is one of the sidecar's SafetensorsError codes; the text never holds the path."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Entry:
    """One tensor: dtype as the file spells it, shape, and its byte range from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    entries: dict[str, Entry]
    metadata: dict[str, str]


class _Object(list):
    """A JSON object as its pairs: a dictionary would hide a key that comes twice."""


_SURROGATE = re.compile("[\ud800-\udfff]")


def header_length(start: bytes, file_bytes: int) -> int:
    """The header's length, from the first 8 bytes of a file of so many. Raises HeaderError."""
    if len(start) < 8:
        raise HeaderError("HEADER_TOO_SMALL", f"expected at least 8 bytes, the file has {file_bytes}; it is empty or cut short")
    length = int.from_bytes(start[:8], "little")
    if length == 0:
        raise HeaderError("INVALID_HEADER_START", "its first bytes are zeros; the download has not filled it")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(
            "HEADER_TOO_LARGE",
            f"the header length {length} is above the container's cap of {MAX_HEADER_BYTES}; this is no safetensors file (a pickle, a page?)",
        )
    if 8 + length > file_bytes:
        raise HeaderError("INVALID_HEADER_LENGTH", f"the header needs {8 + length} bytes, the file has {file_bytes}; it is cut short")
    return length


def parse_header(text: bytes, file_bytes: int) -> Header:
    """`text` are the header's bytes, without the length in front. Raises HeaderError."""
    pairs = _load(text)
    data_start = 8 + len(text)
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] | None = None
    for name, value in pairs:
        if name == "__metadata__":
            if metadata is not None:
                raise HeaderError("DUPLICATE_KEY", 'the header has the key "__metadata__" twice')
            metadata = _metadata(value)
            continue
        if name in entries:
            raise HeaderError("DUPLICATE_KEY", "the header names a tensor twice")
        if len(entries) >= MAX_TENSORS:
            raise HeaderError("TOO_MANY_TENSORS", f"more than {MAX_TENSORS} tensors; no model file has as many")
        entries[name] = _entry(value, data_start)
    _check_tiling(entries, data_start, file_bytes)
    return Header(entries, metadata or {})


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _load(text: bytes) -> _Object:
    if text[:1] != b"{":
        raise HeaderError("INVALID_HEADER_START", "expected a header that starts with '{'")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HeaderError("INVALID_HEADER_UTF8", "expected a header in UTF-8") from error
    try:
        value = json.loads(decoded, object_pairs_hook=_Object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise HeaderError("INVALID_HEADER_JSON", "expected a JSON header") from error
    _check_values(value)
    return value


def _check_values(root: Any) -> None:
    """No nesting beyond the cap, and no half of a surrogate pair in any text: what two readers may read differently."""
    level: list[Any] = [root]
    depth = 0
    while level:
        depth += 1
        deeper: list[Any] = []
        for value in level:
            items = (
                [item for pair in value for item in pair] if isinstance(value, _Object) else value if isinstance(value, list) else [value]
            )
            for item in items:
                if isinstance(item, str):
                    if not item.isascii() and _SURROGATE.search(item):
                        raise HeaderError("INVALID_HEADER_JSON", "expected whole characters, found half of a surrogate pair")
                elif isinstance(item, list):
                    deeper.append(item)
        if deeper and depth >= MAX_DEPTH:
            raise HeaderError("INVALID_HEADER_JSON", f"nested more than {MAX_DEPTH} deep")
        level = deeper


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        # The reference reads null as no metadata, and some writers save it.
        return {}
    if not isinstance(value, _Object):
        raise HeaderError("INVALID_METADATA", 'expected "__metadata__" to be an object of strings')
    metadata: dict[str, str] = {}
    for key, text in value:
        if key in metadata:
            raise HeaderError("DUPLICATE_KEY", '"__metadata__" has a key twice')
        if not isinstance(text, str):
            raise HeaderError("INVALID_METADATA", "expected metadata values to be strings")
        metadata[key] = text
    return metadata


def _fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, _Object):
        raise HeaderError("TENSOR_INVALID_INFO", "expected an object with dtype, shape and data_offsets")
    fields: dict[str, Any] = {}
    for key, item in value:
        if key not in ("dtype", "shape", "data_offsets"):
            continue
        if key in fields:
            raise HeaderError("DUPLICATE_KEY", f'the field "{key}" comes twice')
        fields[key] = item
    return fields


def _integers(value: Any, field: str, cap: int) -> list[int]:
    if not isinstance(value, list) or isinstance(value, _Object):
        raise HeaderError("TENSOR_INVALID_INFO", f"expected {field} to be an array of integers")
    if len(value) > cap:
        raise HeaderError("TENSOR_INVALID_INFO", f"{field} has more than {cap} numbers")
    for number in value:
        if type(number) is float:
            raise HeaderError("INVALID_HEADER_JSON", f"expected whole numbers in {field}")
        if type(number) is not int or number < 0:
            raise HeaderError("TENSOR_INVALID_INFO", f"expected {field} to hold unsigned integers")
        if number > MAX_WHOLE:
            raise HeaderError("VALIDATION_OVERFLOW", f"a number in {field} is above 2^53")
    return value


def _entry(value: Any, data_start: int) -> Entry:
    fields = _fields(value)
    dtype = fields.get("dtype")
    if "dtype" in fields and not isinstance(dtype, str):
        raise HeaderError("TENSOR_INVALID_INFO", "expected dtype to be a string")
    if isinstance(dtype, str) and dtype not in ITEM_BITS:
        raise HeaderError("UNKNOWN_DTYPE", f"the dtype is none of {', '.join(ITEM_BITS)}")
    shape = _integers(fields["shape"], "shape", MAX_RANK) if "shape" in fields else None
    offsets = _integers(fields["data_offsets"], "data_offsets", 2) if "data_offsets" in fields else None
    if dtype is None or shape is None or offsets is None or len(offsets) != 2:
        raise HeaderError("TENSOR_INVALID_INFO", "expected the fields dtype, shape and two data_offsets")
    begin, end = offsets
    if begin > end:
        raise HeaderError("INVALID_OFFSET", "data_offsets run backwards")
    bits = ITEM_BITS[dtype]
    for dimension in shape:
        bits *= dimension
        if bits > 8 * MAX_WHOLE:
            raise HeaderError("VALIDATION_OVERFLOW", "the shape overflows")
    size, odd = divmod(bits, 8)
    if odd:
        raise HeaderError("TENSOR_INVALID_INFO", f"{dtype} {shape} does not end with a whole byte")
    if size != end - begin:
        raise HeaderError("TENSOR_INVALID_INFO", f"{dtype} {shape} needs {size} bytes, data_offsets give {end - begin}")
    return Entry(dtype, tuple(shape), data_start + begin, data_start + end)


def _check_tiling(entries: dict[str, Entry], data_start: int, file_bytes: int) -> None:
    position = data_start
    for entry in sorted(entries.values(), key=lambda one: (one.begin, one.end)):
        if entry.begin != position:
            raise HeaderError("INVALID_OFFSET", "its tensors overlap or leave a hole")
        position = entry.end
    if position != file_bytes:
        raise HeaderError(
            "METADATA_INCOMPLETE_BUFFER",
            f"its data ends at {position} of {file_bytes} bytes; it is cut short, or holds bytes that belong to nothing",
        )
