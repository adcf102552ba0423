"""The engine store on disk, as the sidecar's `store` stage reads and writes it too (sidecar/src/store): one folder per engine, named by its key,
with a manifest that holds every file's checksum. In: what a host compiled. Out: bytes that are exactly what was published.

An engine file can run code, so it is read only from a folder that this user (or root) alone can write. A damaged entry is moved away and built
again, never served. Whatever fails here costs a build, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from .checked.whole_file import replace_file, sync_folder

if TYPE_CHECKING:
    from .host.options import Options

log = logging.getLogger("refit_host")
# The same number as `storeFormatVersion` of sidecar/src/store/key.ts.
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PINNED = "pinned"
REFIT_MAP = "refit-map.json"
MAX_MANIFEST_BYTES = 4 << 20
# The largest stripped engine is about 100 MB; one with its kernels may have some GB.
MAX_ENGINE_BYTES = 16 << 30
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class EngineKey:
    """What an engine depends on; never weights. Field order and names are those of sidecar/src/store/key.ts."""

    structure: str
    precision: str
    profile: str
    host: str
    library: str
    capability: str
    driverBranch: str  # noqa: N815 - as it is written

    @property
    def entry(self) -> str:
        text = json.dumps([FORMAT_VERSION, *asdict(self).values()], separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EngineFinger:
    """What may differ without making an engine useless; any difference makes it UNKNOWN: it has to prove its output first."""

    libraryVersion: str  # noqa: N815 - as it is written
    driver: str
    device: str


@dataclass(frozen=True)
class Stored:
    """`proven`: made on this computer with exactly these versions. Any other has to prove its output before it serves."""

    files: Mapping[str, bytes]
    proven: bool


class EngineStore:
    """`own`: folder that is written, None: nothing is kept. `others`: folders that are only read. `unread`: `own` is written and not read."""

    def __init__(self, own: Path | None, others: Sequence[Path] = (), *, unread: bool = False) -> None:
        self._own = own if own is not None and _private(own, make=True) else None
        if own is not None and self._own is None:
            log.warning("the engine store can be written by others; engines are not kept")
        self._others = [folder for folder in others if _private(folder, make=False)]
        if len(self._others) < len(others):
            log.warning("an engine store that is only read is missing, or others can write to it; it is not used")
        self._read_own = not unread

    @classmethod
    def of(cls, options: "Options") -> "EngineStore":
        return cls(options.store, options.read_stores, unread=options.store_unread)

    def find(self, key: EngineKey, finger: EngineFinger, refit_map: Sequence[Any]) -> Stored | None:
        """A whole engine of that key with that refit map; one that is proven before another. None when there is none."""
        best: Stored | None = None
        for folder in [*([self._own] if self._own is not None and self._read_own else []), *self._others]:
            found = self._read(folder, key, finger, refit_map)
            if found is not None and (best is None or found.proven):
                best = found
            if best is not None and best.proven:
                break
        return best

    def _read(self, folder: Path, key: EngineKey, finger: EngineFinger, refit_map: Sequence[Any]) -> Stored | None:
        place = folder / key.entry
        if not place.is_dir():
            return None
        try:
            manifest = _manifest(place, key)
            files = {name: _checked(place / name, size, sha256) for name, size, sha256 in manifest["files"]}
            if json.loads(files.get(REFIT_MAP, b"null")) != refit_map:
                log.info("the stored engine was made for another refit map; it is built again")
                return None
        except (OSError, ValueError) as error:
            log.warning("an engine file is damaged (%s); it is built again", error)
            if folder == self._own:
                _away(folder, key.entry)
            return None
        if folder == self._own:
            _touch(place / MANIFEST)
        return Stored(files, manifest["origin"] == "own" and manifest["finger"] == asdict(finger))

    def publish(self, key: EngineKey, finger: EngineFinger, files: Mapping[str, bytes], refit_map: Sequence[Any]) -> int:
        """Files, then the manifest that vouches for them, then the folder under its name. Returns bytes; 0 when nothing was kept: a full disk loses the file, not the engine."""
        if self._own is None:
            return 0
        staging = self._own / f"tmp-{os.getpid()}-{secrets.token_hex(8)}"
        try:
            staging.mkdir(mode=0o700)
            rows = []
            for name, data in sorted({**files, REFIT_MAP: json.dumps(refit_map).encode()}.items()):
                assert _PLAIN.fullmatch(name) and name not in (MANIFEST, PINNED)
                write_synced(staging / name, data)
                rows.append({"name": name, "sizeBytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
            made = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            manifest = {
                "formatVersion": FORMAT_VERSION,
                "key": asdict(key),
                "finger": asdict(finger),
                "createdAt": made,
                "files": rows,
                "origin": "own",
            }
            write_synced(staging / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
            sync_folder(staging)
            self._place(staging, key.entry)
            sync_folder(self._own)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            log.warning("the engine could not be kept (%s); it is built again next time", error.strerror)
            return 0
        return sum(row["sizeBytes"] for row in rows)

    def _place(self, staging: Path, entry: str) -> None:
        """An engine of the same key gives way to the newer one, which may hold more sizes, or belong to newer libraries; a pin stays."""
        assert self._own is not None
        place = self._own / entry
        try:
            os.rename(staging, place)
        except OSError:
            if (place / PINNED).exists():
                (staging / PINNED).touch(mode=0o600)
            _away(self._own, entry)
            os.rename(staging, place)

    def remove(self, key: EngineKey) -> None:
        if self._own is not None:
            _away(self._own, key.entry)

    def write_note(self, name: str, record: Mapping[str, Any]) -> None:
        """A small JSON file beside the engines: facts about this computer, no engine."""
        if self._own is None:
            return
        try:
            replace_file(self._own / name, json.dumps(record, indent=1).encode(), 0o600)
        except OSError as error:
            log.warning("the store could not be written (%s)", error.strerror)


def _private(folder: Path, *, make: bool) -> bool:
    """Whether this user (or root) alone may write to the folder; made when it is missing."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stat = folder.stat()
    except OSError:
        return False
    if os.name == "nt":
        return True  # the user's profile is private there; the sidecar puts the store into it
    return stat.st_uid in (os.getuid(), 0) and not stat.st_mode & 0o022


def _manifest(place: Path, key: EngineKey) -> dict[str, Any]:
    """Raises FileNotFoundError, or ValueError for one that is not of this key and version."""
    path = place / MANIFEST
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ValueError("its manifest is too large")
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.get("formatVersion") != FORMAT_VERSION or record.get("key") != asdict(key):
        raise ValueError("its manifest belongs to another engine or version")
    rows = record.get("files")
    if not isinstance(rows, list) or not 0 < len(rows) <= 1000 or not isinstance(record.get("origin"), str):
        raise ValueError("its manifest lists no files")
    files = []
    for row in rows:
        name, size, sha256 = (row.get("name"), row.get("sizeBytes"), row.get("sha256")) if isinstance(row, dict) else (None, None, None)
        if (
            not isinstance(name, str)
            or not _PLAIN.fullmatch(name)
            or name == MANIFEST
            or not isinstance(size, int)
            or not 0 <= size <= MAX_ENGINE_BYTES
        ):
            raise ValueError("its manifest lists something that is no file of it")
        files.append((name, size, sha256))
    return {"files": files, "origin": record["origin"], "finger": record.get("finger")}


def _checked(path: Path, size: int, sha256: object) -> bytes:
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has another size")
    data = path.read_bytes()
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"the checksum of {path.name} is wrong")
    return data


def _away(folder: Path, entry: str) -> None:
    """Gone from its name at once."""
    gone = folder / f"gone-{secrets.token_hex(8)}"
    try:
        os.rename(folder / entry, gone)
    except OSError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        pass  # a disk that became read-only: only the order of use is lost


def write_synced(path: Path, data: bytes) -> None:
    """A new file, readable by this user alone, on the disk when this returns."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
