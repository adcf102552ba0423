"""Compiled code as an entry of the engine store: PyTorch's cache artifacts, by structure and never by weights.

The artifacts hold pickles: the store hands on only what this user (or root) alone could have written, byte for byte. What was compiled with
slightly different versions is offered too; PyTorch's own keys and the comparison with the uncompiled module decide whether it serves.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, Sequence

import torch

from ..engine_platform import key_and_finger
from ..engine_store import EngineFinger, EngineKey, EngineStore

ENGINE_FILE = "artifacts.bin"
# Every size is compiled code of the same entry.
PROFILE = "any"


class CompiledCode:
    """The compiled code of one structure on one kind of device."""

    def __init__(self, store: EngineStore, key: EngineKey, finger: EngineFinger, refit_map: Sequence[Any]) -> None:
        self._store, self._key, self._finger, self._refit_map = store, key, finger, refit_map

    @staticmethod
    def of(store: EngineStore, structure: str, precision: str, device: torch.device, refit_map: Sequence[Any]) -> "CompiledCode":
        properties = torch.cuda.get_device_properties(device)
        key, finger = key_and_finger(
            structure,
            precision,
            PROFILE,
            "torch",
            ("torch", torch.__version__),
            (properties.major, properties.minor),
            properties.name,
            f"triton {_triton()}",
        )
        return CompiledCode(store, key, finger, refit_map)

    def load(self) -> bool:
        """Hands what is stored to PyTorch's caches. False when there is nothing that can be trusted."""
        found = self._store.find(self._key, self._finger, self._refit_map)
        return (
            found is not None and ENGINE_FILE in found.files and torch.compiler.load_cache_artifacts(found.files[ENGINE_FILE]) is not None
        )

    def save(self) -> int:
        """Keeps what this process compiled and loaded. Returns bytes, 0 when nothing was kept."""
        found = torch.compiler.save_cache_artifacts()
        return 0 if found is None else self._store.publish(self._key, self._finger, {ENGINE_FILE: found[0]}, self._refit_map)


def _triton() -> str:
    for name in ("triton", "triton-windows", "pytorch-triton-rocm"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"
