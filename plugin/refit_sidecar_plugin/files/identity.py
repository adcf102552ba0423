"""Content identity of files: SHA-256 over all bytes, remembered while size, modification time and inode stay."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass


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


class Identities:
    """Remembers identities. Safe from several threads; a file is hashed outside the lock, at worst twice."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp, str]] = {}
        self._lock = threading.Lock()

    def sha256(self, path: str) -> str | None:
        """None when the file is missing, or changed while it was read (a copy in progress has no identity yet)."""
        before = stamp(path)
        if before is None:
            return None
        with self._lock:
            known = self._known.get(path)
        if known and known[0] == before:
            return known[1]
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
            self._known[path] = (before, digest.hexdigest())
        return digest.hexdigest()
