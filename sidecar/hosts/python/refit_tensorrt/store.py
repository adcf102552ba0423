"""Engine files on disk: a serialised engine with its manifest, what the runtime compiled for this device, and which host won here.

Keyed by all that an engine depends on, never by weights. A file is loaded only from a folder that this user alone can write and only when
its manifest's SHA-256 matches; anything else is built again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refit_host.torch_engine.artifacts import private_folder, write_durably

log = logging.getLogger("refit_host")
# Raised when the files' meaning changes: older ones are then simply not found.
FORMAT_VERSION = 1
MAX_PLAN_BYTES = 8 << 30
MAX_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class EngineKey:
    """`library`: name and full version, because an engine belongs to the release that made it. `device`: only where engines are bound to one."""

    structure: str
    variant: str
    profiles: str
    library: str
    capability: str
    device: str

    @property
    def stem(self) -> str:
        text = json.dumps([FORMAT_VERSION, *asdict(self).values()])
        return f"tensorrt-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


@dataclass(frozen=True)
class Found:
    """`checked`: how far its output is from PyTorch's, relative; more than the tolerance: a refused engine, kept without its plan."""

    plan: bytes | None
    cache: bytes | None
    facts: dict[str, Any]


class EngineStore:
    """`folder` None: nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder if folder is not None and private_folder(folder) else None
        if folder is not None and self._folder is None:
            log.warning("the engine store can be written by others; engines are not kept")

    def find(self, key: EngineKey) -> Found | None:
        """None when there is no engine of that key that can be trusted."""
        if self._folder is None:
            return None
        manifest = self._folder / f"{key.stem}.json"
        try:
            record = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict) or record.get("formatVersion") != FORMAT_VERSION or record.get("key") != asdict(key):
            return None
        facts = record.get("facts") if isinstance(record.get("facts"), dict) else {}
        if facts.get("refused"):
            return Found(None, None, facts)
        plan = self._read(f"{key.stem}.plan", record.get("sha256"), MAX_PLAN_BYTES)
        if plan is None:
            log.warning("the engine file of this structure is missing or damaged; it is built again")
            manifest.unlink(missing_ok=True)
            return None
        return Found(plan, self._read(f"{key.stem}.cache", record.get("cacheSha256"), MAX_CACHE_BYTES), facts)

    def _read(self, name: str, sha256: Any, limit: int) -> bytes | None:
        assert self._folder is not None
        path = self._folder / name
        try:
            if path.stat().st_size > limit:
                return None
            data = path.read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def keep(self, key: EngineKey, plan: bytes, cache: bytes | None, facts: dict[str, Any]) -> None:
        """Files first, then the manifest that vouches for them. A full disk loses the file, not the engine."""
        if self._folder is None:
            return
        try:
            write_durably(self._folder / f"{key.stem}.plan", plan)
            if cache is not None:
                write_durably(self._folder / f"{key.stem}.cache", cache)
            record = {"sha256": hashlib.sha256(plan).hexdigest(), "cacheSha256": None if cache is None else hashlib.sha256(cache).hexdigest()}
            self._write_json(f"{key.stem}.json", {"key": asdict(key), **record, "facts": facts})
        except OSError as error:
            log.warning("the engine could not be kept (%s); it is built again next time", error.strerror)

    def refuse(self, key: EngineKey, facts: dict[str, Any]) -> None:
        """Remembers that this release computes wrong numbers here, so that it is not built again."""
        if self._folder is None:
            return
        try:
            self._write_json(f"{key.stem}.json", {"key": asdict(key), "facts": {**facts, "refused": True}})
        except OSError as error:
            log.warning("the store could not be written (%s)", error.strerror)

    def record_choice(self, structure: str, dtype: str, facts: dict[str, Any]) -> None:
        """Which host won here; the sidecar's `auto` reads it (`sidecar/src/pipeline/host-choice.ts`)."""
        if self._folder is None:
            return
        try:
            self._write_json(f"choice-{structure[:32]}-{dtype}.json", {"structure": structure, "dtype": dtype, **facts})
        except OSError as error:
            log.warning("the store could not be written (%s)", error.strerror)

    def _write_json(self, name: str, record: dict[str, Any]) -> None:
        assert self._folder is not None
        text = json.dumps({"formatVersion": FORMAT_VERSION, "writtenAt": int(time.time()), **record}, indent=1)
        write_durably(self._folder / name, text.encode())
