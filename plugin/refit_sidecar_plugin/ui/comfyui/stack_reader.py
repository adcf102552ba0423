"""From a ModelPatcher's patches to the ordered stack, with the files as they are on disk now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.utils
import folder_paths

from ...files import Identities, Stamp, stamp
from ...stack import Candidate, ContentItem, FileItem, Patch, StackItem, identify, targets_digest
from ...stack.patches import settle
from ..denoising.origins import Origins, follow_loads
from ..denoising.tensors import Digests
from .injections import bypass_managers, bypass_patches
from .keys import key_map
from .patches import MODEL_PREFIX, ComfyPatches, file_patches, placed, read_patches

# Finds an adapter by its tensors: answers with a name of the loras folders, or None.
FindName = Callable[[Patch], str | None]


@dataclass(frozen=True)
class Version:
    """What an adapter file was when it was matched."""

    stamp: Stamp
    sha256: str
    patches: tuple[Patch, ...]


@dataclass(frozen=True)
class Reading:
    """`patches` are the MODEL's own unless a file was rewritten since its loader read it; then its newest content stands in their place, and in that of
    the bypass loaders' adapters (`replaced`). `managers` are kept, because their identity is part of what was read.
    """

    items: tuple[StackItem, ...]
    patches: ComfyPatches
    files: dict[str, Stamp]
    replaced: bool = False
    managers: tuple[object, ...] = ()

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """What each item changes, as `engine.prepare` names it. Named once: a reading serves all prompts of its stack."""
        return tuple(targets_digest(item.patches) for item in self.items)


class StackReader:
    """Remembers files and results; one per process. Used by the sampling thread only."""

    def __init__(self, kept: Path | None = None) -> None:
        """`kept`: where identities of files are remembered over starts."""
        self._digests, self._identities = Digests(Origins(self._forget_readings)), Identities(kept)
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="refit-hash")
        self._versions: dict[tuple[str, int], list[Version]] = {}
        self._readings: dict[object, Reading] = {}

    def follow_loaders(self) -> None:
        """From now on what ComfyUI's loaders read of the loras folders is known by its place, and hashed beside whatever the prompt does next."""
        follow_loads(
            comfy.utils,
            "load_torch_file",
            self._digests.origins,
            _is_adapter,
            lambda path: self._hashing.submit(self._identities.sha256, path) and None,
        )

    def _forget_readings(self) -> None:
        """A tensor was changed in place after it was read: what was made of it is looked at again."""
        self._readings.clear()

    def read(self, patcher: Any, hints: list[str], find: FindName) -> Reading:
        """Raises NotServed for patches that are no LoRA."""
        managers = bypass_managers(patcher)
        state = (patcher.patches_uuid, *map(id, managers))
        known = self._readings.get(state)
        # ComfyUI itself decides by this id whether patched weights are still right.
        if known is not None and all(stamp(path) == seen for path, seen in known.files.items()) and not self._unexplained(known):
            return known
        self._digests.origins.begin()
        own: ComfyPatches = patcher.patches
        bypassed = bypass_patches(patcher)
        patches = {key: [*own.get(key, ()), *bypassed.get(key, ())] for key in {**own, **bypassed}}
        items = self._identify(patcher, patches, hints, find)
        stale = [item for item in items if isinstance(item, FileItem) and self._rewritten(item)]
        if stale:
            patches = self._refreshed(patcher, patches, stale)
            items = self._identify(patcher, patches, hints, find)
        files = {path: seen for item in items if isinstance(item, FileItem) and (path := adapter_path(item.name)) and (seen := stamp(path))}
        reading = Reading(tuple(items), patches if stale else own, files, bool(stale and bypassed), managers)
        self._digests.origins.verify()
        if len(self._readings) >= 64:
            self._readings.pop(next(iter(self._readings)))
        self._readings[state] = reading
        return reading

    @staticmethod
    def _unexplained(reading: Reading) -> bool:
        return any(isinstance(item, ContentItem) for item in reading.items)

    def _identify(self, patcher: Any, patches: ComfyPatches, hints: list[str], find: FindName) -> list[StackItem]:
        live = read_patches(patches, self._digests)
        model = patcher.model

        def found(patch: Patch) -> Candidate | None:
            name = find(patch)
            return next(self._candidates(model, name), None) if name else None

        return identify(live, (candidate for name in hints for candidate in self._candidates(model, name)), found)

    def _candidates(self, model: Any, name: str) -> Iterator[Candidate]:
        """The file as it is, then as it was when it was matched before (a loader may still hold the older content)."""
        path = adapter_path(name)
        if path is None:
            return
        versions = self._versions.setdefault((path, key_map(model).number), [])
        now = stamp(path)
        if now is not None and not any(version.stamp == now for version in versions):
            made: list[list[Patch] | None] = []

            def read_once() -> list[Patch] | None:
                if not made:
                    made.append(self._file_patches(model, path))
                return made[0]

            yield Candidate(name, read_once, lambda: self._remember(model, path, now, versions, read_once()))
        for version in list(versions):
            yield Candidate(name, lambda version=version: version.patches, lambda version=version: version.sha256)

    def _file_patches(self, model: Any, path: str) -> list[Patch] | None:
        try:
            return file_patches(path, key_map(model), model.diffusion_model.state_dict(), self._digests)
        except Exception:  # noqa: BLE001 - a file that ComfyUI cannot load explains nothing; whatever it raises is its own business
            return None

    def _remember(self, model: Any, path: str, seen: Stamp, versions: list[Version], patches: list[Patch] | None) -> str | None:
        sha256 = self._identities.sha256(path)
        patches = self._file_patches(model, path) if patches is None else patches
        if sha256 is None or patches is None:
            return None
        frozen = tuple(patch.frozen() for patch in patches)
        if stamp(path) != seen:
            return None
        versions.append(Version(seen, sha256, frozen))
        self._hashing.submit(settle, frozen)
        return sha256

    def _rewritten(self, item: FileItem) -> bool:
        path = adapter_path(item.name)
        now = path and self._identities.sha256(path)
        return bool(now) and now != item.sha256

    def _refreshed(self, patcher: Any, patches: ComfyPatches, stale: list[FileItem]) -> ComfyPatches:
        """The patches with every stale file's entries replaced, in place, by what its loader would make of the file now."""
        out: dict[str, list[Any]] = {key: list(entries) for key, entries in patches.items()}
        names = patcher.model_state_dict()
        for item in stale:
            path = adapter_path(item.name)
            tensors = comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(path, safe_load=True))
            fresh: dict[str, list[tuple]] = {}
            for key, adapter in comfy.lora.load_lora(tensors, dict(key_map(patcher.model)), log_missing=False).items():
                name, offset, function = placed(key)
                if name in names:
                    fresh.setdefault(name, []).append((item.strength, adapter, 1.0, offset, function))
            for parameter, index in item.places:
                entries = out[MODEL_PREFIX + parameter]
                entries[index] = None
            for key in {MODEL_PREFIX + parameter for parameter, _ in item.places} | fresh.keys():
                entries, new = out.get(key, []), fresh.get(key, [])
                at = entries.index(None) if None in entries else len(entries)
                out[key] = [entry for entry in (*entries[:at], *new, *entries[at:]) if entry is not None]
        return {key: entries for key, entries in out.items() if entries}


def adapter_path(name: str) -> str | None:
    """The file behind a name of the loras folders."""
    return folder_paths.get_full_path("loras", name.replace("/", os.sep))


def _is_adapter(path: str) -> bool:
    """In one of the loras folders."""
    own = os.path.abspath(path)
    return any(own.startswith(os.path.join(os.path.abspath(folder), "")) for folder in folder_paths.get_folder_paths("loras"))
