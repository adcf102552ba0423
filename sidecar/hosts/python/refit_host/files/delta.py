"""Delta files: terms and their factors (docs/internals.md, "Delta file"). Checked whole before anything uses them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failure import HostFailure, expect
from ..terms.term import Term, parse_term
from ..wire import check
from .safetensors_header import Entry, read_header

FORMAT_VERSION = 1
KEY = "refit_delta"


@dataclass(frozen=True)
class StackFile:
    """A delta file in a stack: path, SHA-256 of the adapter it was made from, strength."""

    delta: Path
    sha256: str
    strength: float

    @staticmethod
    def parse(value: Any) -> "StackFile":
        row = check.obj(value, "stack item")
        return StackFile(Path(check.text(row, "delta")), check.text(row, "sha256"), check.number(row, "strength"))


@dataclass(frozen=True)
class DeltaFile:
    """A checked header. `entries`: factor tensors with absolute positions in the file."""

    path: Path
    adapter: str
    structure: str
    terms: tuple[Term, ...]
    entries: dict[str, Entry]
    size_bytes: int
    stamp: tuple[int, int, int]

    @property
    def touched(self) -> frozenset[str]:
        return frozenset(term.parameter for term in self.terms)


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Size, modification time and inode: what makes a cached image of a delta file stale."""
    try:
        stat = path.stat()
    except OSError as error:
        raise HostFailure("HOST_DELTA_INVALID", "the delta file is gone; it is built again", {"name": path.name}) from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def read_delta(path: Path, adapter: str | None = None) -> DeltaFile:
    """Reads and checks the header. Raises HOST_DELTA_INVALID; the sidecar then builds the file again."""
    stamp = stamp_of(path)
    header = read_header(path, "HOST_DELTA_INVALID")
    try:
        body = check.obj(json.loads(header.metadata[KEY]), KEY)
        expect(body.get("formatVersion") == FORMAT_VERSION, "HOST_DELTA_INVALID",
               f"expected delta format {FORMAT_VERSION}, the file has {body.get('formatVersion')}")
        terms = tuple(parse_term(item) for item in check.arr(body.get("terms"), "terms"))
        made_from, structure = check.text(body, "adapter"), check.text(body, "structure")
    except (KeyError, ValueError, RecursionError) as error:
        raise HostFailure("HOST_DELTA_INVALID", "expected the refit_delta record in the file's metadata", {"name": path.name}) from error
    expect(adapter is None or made_from == adapter, "HOST_DELTA_INVALID", "the delta file belongs to another adapter", name=path.name)
    for term in terms:
        missing = [name for name in term.names if name not in header.entries]
        expect(not missing, "HOST_DELTA_INVALID", f"{term.parameter}: the delta file lacks a factor", missing=missing[:4])
    return DeltaFile(path, made_from, structure, terms, header.entries, header.size_bytes, stamp)


