"""Compiled code on disk, by structure and never by weights. In: PyTorch's cache artifacts. Out: the same bytes in another process. Never: a file that
others could have written; the store is the engine hosts' own (refit_host.engine_store).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import torch
from refit_host.engine_platform import key_and_finger
from refit_host.engine_store import EngineFinger, EngineKey, EngineStore

from .snapshot import Structure

log = logging.getLogger("refit_sidecar")
ENGINE_FILE = "artifacts.bin"


def fingerprint(structure: Structure) -> str:
    """SHA-256 over classes, names, shapes and number formats: equal for modules that share compiled code."""
    rows = [[name, f"{kind.__module__}.{kind.__qualname__}"] for name, kind in structure.modules]
    rows += [[name, list(shape), str(dtype), parameter] for name, shape, dtype, parameter in structure.tensors]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


class EngineCache:
    """`folder` None: nothing is kept. `keep`: new code is written; `reuse`: stored code is read; `limit`: bytes of all entries together."""

    def __init__(self, folder: Path | None, *, keep: bool, reuse: bool, limit: int) -> None:
        self._store = EngineStore(folder if keep or reuse else None)
        self._folder, self._keep, self._reuse, self._limit = folder, keep, reuse, limit
        self._key: EngineKey | None = None
        self._finger: EngineFinger | None = None
        self.hits = 0

    def select(self, structure: Structure, precision: str, device: torch.device) -> None:
        """Chooses the entry that `load` and `save` mean."""
        capability, name = (0, 0), "cpu"
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            capability, name = (properties.major, properties.minor), properties.name
        self._key, self._finger = key_and_finger(
            fingerprint(structure), precision, "any", "module", ("torch", torch.__version__), capability, name
        )

    def load(self) -> bool:
        """Hands stored code to PyTorch's caches; False when there is none."""
        if not self._reuse or self._key is None or self._finger is None:
            return False
        found = self._store.find(self._key, self._finger, [])
        if found is None or ENGINE_FILE not in found.files or torch.compiler.load_cache_artifacts(found.files[ENGINE_FILE]) is None:
            return False
        self.hits += 1
        log.info("refit_sidecar: compiled code from the engine cache")
        return True

    def save(self) -> int:
        """Keeps what was compiled; returns bytes."""
        if not self._keep or self._key is None or self._finger is None:
            return 0
        found = torch.compiler.save_cache_artifacts()
        if found is None:
            return 0
        written = self._store.publish(self._key, self._finger, {ENGINE_FILE: found[0]}, [])
        self._trim()
        return written

    def _trim(self) -> None:
        """Over the limit the entries that were used longest ago go, but for the present one."""
        if self._folder is None or self._key is None:
            return
        entries = [place for place in self._folder.iterdir() if (place / "manifest.json").is_file()]
        sizes = {place: sum(file.stat().st_size for file in place.iterdir() if file.is_file()) for place in entries}
        total = sum(sizes.values())
        for place in sorted(entries, key=lambda each: (each / "manifest.json").stat().st_mtime):
            if total <= self._limit:
                return
            if place.name != self._key.entry:
                shutil.rmtree(place, ignore_errors=True)
                total -= sizes[place]
