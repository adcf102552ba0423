"""Content identity of files: SHA-256 over all bytes, remembered while size, modification time and inode stay."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from ..checked.whole_file import replace_file

HASH = re.compile("[0-9a-f]{64}")
# The layout of every text that is kept between runs: a line with format and SHA-256 of what follows, then the text.
FORMAT = "refit-identities-1"
# About 500 KB of JSON.
MOST_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells cheaply that a file is still the one that was read."""

    size: int
    mtime_ns: int
    inode: int


def stamp(path: str) -> Stamp | None:
    """None when there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def _read(path: Path) -> dict[str, tuple[Stamp, str]]:
    """What an earlier start remembered; nothing where the file is missing or damaged, whole or in part."""
    try:
        line, _, text = path.read_text("utf-8").partition("\n")
        if line != f"{FORMAT} {hashlib.sha256(text.encode()).hexdigest()}":
            return {}
        rows = json.loads(text)
        return {
            name: (Stamp(size, mtime, inode), sha256)
            for name, (size, mtime, inode, sha256) in rows.items()
            if HASH.fullmatch(sha256) and {type(size), type(mtime), type(inode)} == {int}
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _write(path: Path, known: dict[str, tuple[Stamp, str]]) -> None:
    """Whole or not at all; a folder that cannot be written costs only the time of the next start."""
    text = json.dumps({name: (seen.size, seen.mtime_ns, seen.inode, sha256) for name, (seen, sha256) in known.items()})
    line = f"{FORMAT} {hashlib.sha256(text.encode()).hexdigest()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{line}\n{text}".encode(), 0o600)
    except OSError:
        pass


class Identities:
    """Remembers identities. Safe from several threads; a file is hashed once, over all starts where `kept` names a file to remember them in."""

    def __init__(self, kept: Path | None = None) -> None:
        self._kept = kept
        self._known: dict[str, tuple[Stamp, str]] = {} if kept is None else _read(kept)
        self._reading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def sha256(self, path: str) -> str | None:
        """None when the file is missing, or changed while it was read (a copy in progress has no identity yet)."""
        before = stamp(path)
        if before is None:
            return None
        with self._lock:
            one_at_a_time = self._reading.setdefault(path, threading.Lock())
        # Whoever comes while it is being hashed waits for that instead of hashing it too.
        with one_at_a_time:
            known = self._known.get(path)
            return known[1] if known and known[0] == before else self._hashed(path, before)

    def _hashed(self, path: str, before: Stamp) -> str | None:
        digest = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError:
            return None
        if stamp(path) != before:
            return None
        with self._lock:
            self._known.pop(path, None)
            self._known[path] = (before, digest.hexdigest())
            while len(self._known) > MOST_KEPT:
                self._known.pop(next(iter(self._known)))
            if self._kept is not None:
                _write(self._kept, self._known)
        return digest.hexdigest()
