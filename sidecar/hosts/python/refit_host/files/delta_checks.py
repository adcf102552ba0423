"""Checksums and finite flags of a delta's factors: the file's last tensor (docs/develop/internals.md, "Delta file")."""

from __future__ import annotations

import struct
import zlib
from typing import Mapping

NAME = "~checks"
RECORD = struct.Struct("<IB")


def _ordered(names) -> list[str]:
    """Code-unit order, as JavaScript sorts text."""
    return sorted(names, key=lambda name: name.encode("utf-16-be"))


def encode_checks(checks: Mapping[str, tuple[int, bool]], metadata: str) -> bytes:
    """`checks`: factor name -> (CRC-32, finite). `metadata`: the refit_delta JSON as written."""
    records = b"".join(RECORD.pack(checks[name][0], 0 if checks[name][1] else 1) for name in _ordered(checks))
    return records + struct.pack("<I", zlib.crc32(records, zlib.crc32(metadata.encode())))


def decode_checks(table: bytes, names, metadata: str) -> dict[str, tuple[int, bool]]:
    """Raises ValueError when the table does not belong to these names and this metadata."""
    ordered = _ordered(names)
    if len(table) != len(ordered) * RECORD.size + 4:
        raise ValueError(f"the checksum table has {len(table)} bytes for {len(ordered)} factors")
    if struct.unpack("<I", table[-4:])[0] != zlib.crc32(table[:-4], zlib.crc32(metadata.encode())):
        raise ValueError("the checksum of its header does not match")
    return {name: (crc, bad == 0) for name, (crc, bad) in zip(ordered, RECORD.iter_unpack(table[:-4]))}
