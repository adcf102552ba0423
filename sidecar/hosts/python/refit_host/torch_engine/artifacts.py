"""Compiled code on disk: PyTorch's cache artifacts as one engine file, by structure and never by weights.

The file holds pickles, so it is read only from a folder that this user alone can write and only when its manifest's SHA-256
matches; anything else is compiled again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("refit_host")
FORMAT_VERSION = 1
# One per structure, dtype and version of the libraries, about 80 MB each; the ones not used for longest go first.
MAX_FILES = 8


@dataclass(frozen=True)
class EngineKey:
    """What compiled code depends on."""

    structure: str
    precision: str
    torch: str
    triton: str
    device: str
    capability: str

    @staticmethod
    def of(structure: str, precision: str, device: torch.device) -> "EngineKey":
        from importlib import metadata

        properties = torch.cuda.get_device_properties(device)
        return EngineKey(structure, precision, torch.__version__, metadata.version("triton"), properties.name, f"{properties.major}.{properties.minor}")

    @property
    def stem(self) -> str:
        text = json.dumps([FORMAT_VERSION, *vars(self).values()])
        return f"torch-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def private_folder(folder: Path) -> bool:
    """Makes the folder if needed; whether this user alone may write to it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name == "nt":
        return True  # the user's profile is private there; the sidecar puts the store into it
    stat = folder.stat()
    return stat.st_uid == os.getuid() and not stat.st_mode & 0o022


def load(folder: Path, key: EngineKey) -> bool:
    """Hands a matching engine file to PyTorch's caches. False when there is none that can be trusted."""
    manifest, data = folder / f"{key.stem}.json", folder / f"{key.stem}.bin"
    if not (manifest.exists() and data.exists()) or not private_folder(folder):
        return False
    try:
        record = json.loads(manifest.read_text())
        raw = data.read_bytes()
    except (OSError, ValueError):
        return False
    if record.get("sha256") != hashlib.sha256(raw).hexdigest() or record.get("key") != vars(key):
        log.warning("the engine file for this structure is damaged; it is compiled again")
        manifest.unlink(missing_ok=True)
        return False
    os.utime(data)
    return torch.compiler.load_cache_artifacts(raw) is not None


def save(folder: Path, key: EngineKey, facts: dict[str, Any]) -> int:
    """Writes what this process compiled: data first, then the manifest, each through a rename. Returns bytes, 0 when there is nothing."""
    if not private_folder(folder):
        log.warning("the engine store can be written by others; compiled code is not kept")
        return 0
    found = torch.compiler.save_cache_artifacts()
    if found is None:
        return 0
    raw, _ = found
    write_durably(folder / f"{key.stem}.bin", raw)
    record = {"formatVersion": FORMAT_VERSION, "key": vars(key), "sha256": hashlib.sha256(raw).hexdigest(), **facts}
    write_durably(folder / f"{key.stem}.json", json.dumps(record, indent=1).encode())
    _prune(folder)
    return len(raw)


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("torch-*.bin"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MAX_FILES]:
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Temporary file, fsync, rename; readable by this user alone."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
