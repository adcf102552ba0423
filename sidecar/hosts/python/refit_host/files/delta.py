"""Delta files: terms and their factors (docs/develop/internals.md, "Delta file"). Checked whole before anything uses them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failure import HostFailure
from ..terms.term import Term, parse_term
from ..wire import check, protocol
from . import delta_checks
from .safetensors_header import Entry, Header, missing, read_header

FORMAT_VERSION = 1
KEY = "refit_delta"


@dataclass(frozen=True)
class StackFile:
    """A delta file in a stack: path, SHA-256 of the adapter it was made from, strength."""

    delta: Path
    sha256: str
    strength: float

    @staticmethod
    def parse(row: protocol.StackFile) -> "StackFile":
        return StackFile(Path(row["delta"]), row["sha256"], float(row["strength"]))


@dataclass(frozen=True)
class DeltaFile:
    """A checked header. `entries`: factor tensors with absolute positions in the file; `checks`: CRC-32 and finiteness of each."""

    path: Path
    adapter: str
    terms: tuple[Term, ...]
    entries: dict[str, Entry]
    checks: dict[str, tuple[int, bool]]
    size_bytes: int
    stamp: tuple[int, int]

    @property
    def touched(self) -> frozenset[str]:
        return frozenset(term.parameter for term in self.terms)


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and inode: what makes a cached image of a delta file stale. Delta files are renamed into place and never written again; their times
    are the order of use that the sidecar keeps, and change beside a host that reads. Raises HOST_FILE_MISSING."""
    try:
        stat = path.stat()
    except OSError as error:
        raise missing(path, error) from error
    return stat.st_size, stat.st_ino


def _invalid(message: str, path: Path, **evidence: Any) -> HostFailure:
    return HostFailure("HOST_DELTA_INVALID", f"{message}; the delta is rebuilt from the adapter", {"name": path.name, **evidence})


def read_delta(path: Path, adapter: str | None = None) -> DeltaFile:
    """Reads and checks the header. Raises HOST_FILE_MISSING, HOST_FILE_INVALID, HOST_DELTA_INVALID."""
    stamp = stamp_of(path)
    header = read_header(path)
    try:
        body = check.obj(json.loads(header.metadata[KEY]), KEY)
        if body.get("formatVersion") != FORMAT_VERSION:
            raise _invalid(f"expected delta format {FORMAT_VERSION}, the file has {body.get('formatVersion')}", path)
        terms = tuple(parse_term(item) for item in check.arr(body.get("terms"), "terms"))
        made_from = check.text(body, "adapter")
    except (KeyError, ValueError, RecursionError) as error:
        raise _invalid("expected the refit_delta record in the file's metadata", path) from error
    except HostFailure as error:
        raise error if error.code == "HOST_DELTA_INVALID" else _invalid(error.message, path) from error
    if adapter is not None and made_from != adapter:
        raise _invalid("expected the delta of the adapter that the stack names, got another adapter's", path)
    checks = _checks(path, header)
    entries = {name: entry for name, entry in header.entries.items() if name != delta_checks.NAME}
    for term in terms:
        absent = [name for name in term.names if name not in entries]
        if absent:
            raise _invalid(f"{term.parameter}: the delta file lacks a factor", path, missing=absent[:4])
    return DeltaFile(path, made_from, terms, entries, checks, header.size_bytes, stamp)


def _checks(path: Path, header: Header) -> dict[str, tuple[int, bool]]:
    table = header.entries.get(delta_checks.NAME)
    if table is None:
        raise _invalid("the checksum table is missing", path)
    try:
        with path.open("rb") as file:
            file.seek(table.begin)
            raw = file.read(table.end - table.begin)
        return delta_checks.decode_checks(raw, [name for name in header.entries if name != delta_checks.NAME], header.metadata[KEY])
    except OSError as error:
        raise missing(path, error) from error
    except ValueError as error:
        raise _invalid(str(error), path) from error
