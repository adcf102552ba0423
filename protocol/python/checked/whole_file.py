"""Files that are replaced as a whole: a reader sees the old one or the new one, whatever is killed when."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, write: bytes | Callable[[BinaryIO], object], mode: int = 0o666) -> None:
    """Temp file in the same folder, fsync, rename, fsync of the folder, as the sidecar's `replaceFile`. `write`: the bytes, or what writes them; `mode`:
    rights of the new file, less the process's mask. Raises OSError, and leaves no temp file then."""
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(beside, flags, mode), "wb") as file:
            if isinstance(write, bytes):
                file.write(write)
            else:
                write(file)
            file.flush()
            os.fsync(file.fileno())
        _rename_over(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in it durable. Windows has no such call, and journals the rename."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename_over(source: Path, target: Path) -> None:
    """Windows refuses to rename over a file that someone has open; virus scanners hold new files for a moment."""
    for attempt in range(11):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == 10:
                raise
            time.sleep(0.02 * (attempt + 1))
