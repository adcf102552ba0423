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
from ...stack import Candidate, ContentItem, FileItem, Once, Patch, StackItem, identify
from ...stack.patches import settle
from ..denoising.origins import MappedFile, Origins, follow_loads
from ..denoising.tensors import Digests
from .applied import Applied
from .collector import collector_waits
from .injections import bypass_managers, bypass_patches
from .keys import key_map
from .patches import MODEL_PREFIX, ComfyPatches, file_patches, placed, read_patches
from .whole_files import Version, entries, whole_files

# Finds an adapter by its tensors: answers with a name of the loras folders, or None.
FindName = Callable[[Patch], str | None]

# Files are hashed beside their loaders: a stack of four waits for the longest instead of for the sum.
HASHING_THREADS = 4
# A reading holds the tensors of its stack. It is of use while the MODEL that it was made from is, and ComfyUI keeps those of one prompt.
KEPT_READINGS = 4


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
        return tuple(item.targets for item in self.items)


class StackReader:
    """Remembers files and results; one per process. Used by the sampling thread only."""

    def __init__(self, kept: Path | None = None) -> None:
        """`kept`: where identities of files are remembered over starts."""
        self._origins = Origins(self._forget_readings)
        self._digests, self._identities = Digests(self._origins), Identities(kept)
        self._applied = Applied(self._origins)
        self._hashing = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="refit-hash")
        self._versions: dict[tuple[str, int], list[Version]] = {}
        self._readings: dict[object, Reading] = {}

    def follow_loaders(self, loading: Callable[[], None] = lambda: None) -> None:
        """From now on what ComfyUI's loaders read of the loras folders is known by its place, and hashed beside whatever the prompt does next. `loading`: a
        loader has begun."""

        def begun(path: str) -> None:
            self._hashing.submit(self._identities.sha256, path)
            loading()

        follow_loads(
            comfy.utils,
            "load_torch_file",
            self._origins,
            _is_adapter,
            begun,
        )
        self._applied.follow(loading)

    def _forget_readings(self) -> None:
        """A tensor was changed in place after it was read: what was made of it is looked at again."""
        self._applied.forget()
        self._readings.clear()

    def read(self, patcher: Any, hints: list[str], find: FindName) -> Reading:
        """Raises NotServed for patches that are no LoRA."""
        managers = bypass_managers(patcher)
        state = (patcher.patches_uuid, *map(id, managers))
        known = self._readings.get(state)
        # ComfyUI itself decides by this id whether patched weights are still right.
        if known is not None and all(stamp(path) == seen for path, seen in known.files.items()) and not self._unexplained(known):
            return known
        with collector_waits():
            return self._read(patcher, hints, find, state, managers)

    def _read(self, patcher: Any, hints: list[str], find: FindName, state: object, managers: tuple[object, ...]) -> Reading:
        self._origins.begin()
        own: ComfyPatches = patcher.patches
        bypassed = bypass_patches(patcher)
        patches = {key: [*own.get(key, ()), *bypassed.get(key, ())] for key in {**own, **bypassed}}
        items = self._applied_files(patches, patcher.model)
        if items is None or any(isinstance(item, FileItem) and not item.places and self._rewritten(item) for item in items):
            items = self._identify(patcher, patches, hints, find)
        stale = [item for item in items if isinstance(item, FileItem) and self._rewritten(item)]
        if stale:
            patches = self._refreshed(patcher, patches, stale)
            items = self._identify(patcher, patches, hints, find)
        files = {path: seen for item in items if isinstance(item, FileItem) and (path := adapter_path(item.name)) and (seen := stamp(path))}
        reading = Reading(tuple(items), patches if stale else own, files, bool(stale and bypassed), managers)
        self._origins.verify()
        if len(self._readings) >= KEPT_READINGS:
            self._readings.pop(next(iter(self._readings)))
        self._readings[state] = reading
        return reading

    @staticmethod
    def _unexplained(reading: Reading) -> bool:
        return any(isinstance(item, ContentItem) for item in reading.items)

    def _identify(self, patcher: Any, patches: ComfyPatches, hints: list[str], find: FindName) -> list[StackItem]:
        model = patcher.model
        found = list(entries(patches, self._origins))
        known = [entry for entry in found if entry is not None]
        if len(known) == len(found):
            items = whole_files(known, lambda file: self._version(model, file), lambda places: _live(patches, places, self._digests))
            if items is not None:
                return items
        live = read_patches(patches, self._digests)
        # Files that are certainly there come first: one that explains nothing is read in vain.
        read_from = dict.fromkeys(name for entry in known if (name := adapter_name(entry.file.path)) is not None)

        def found_by_value(patch: Patch) -> Candidate | None:
            name = find(patch)
            return next(self._candidates(model, name), None) if name else None

        names = dict.fromkeys([*read_from, *hints])
        return identify(live, (candidate for name in names for candidate in self._candidates(model, name)), found_by_value)

    def _applied_files(self, patches: ComfyPatches, model: Any) -> list[StackItem] | None:
        """The stack, where all of it is files as their loaders read them a moment ago."""
        out: list[StackItem] = []
        for one in self._applied.read(patches, model) or ():
            name = adapter_name(one.load.file.path)
            if one.load.sha256 is None:
                sha256 = self._identities.sha256(one.load.file.path)
                one.load.sha256 = sha256 if one.load.file.current else None
            if name is None or one.load.sha256 is None:
                return None
            places = () if one.load.file.current else self._applied.places(patches, one)
            own = Once(lambda one=one: _live(patches, self._applied.places(patches, one), self._digests))
            out.append(FileItem(name, one.load.sha256, one.strength, places, own, lambda one=one: one.targets))
        return out or None

    def _version(self, model: Any, file: MappedFile) -> Version | None:
        """The file as its loader read it, where it is still so."""
        name = adapter_name(file.path)
        if name is None:
            return None
        versions = self._versions.setdefault((file.path, key_map(model).number), [])
        known = next((version for version in versions if version.stamp == file.stamp), None)
        return known or self._remember(model, name, file.path, file.stamp, versions, None)

    def _candidates(self, model: Any, name: str) -> Iterator[Candidate]:
        """The file as it is, then as it was when it was matched before (a loader may still hold the older content)."""
        path = adapter_path(name)
        if path is None:
            return
        versions = self._versions.setdefault((path, key_map(model).number), [])
        now = stamp(path)
        if now is not None and not any(version.stamp == now for version in versions):
            read_once = Once(lambda: self._file_patches(model, path))

            def remembered() -> str | None:
                made = self._remember(model, name, path, now, versions, read_once())
                return None if made is None else made.sha256

            yield Candidate(name, read_once, remembered)
        for version in list(versions):
            yield Candidate(name, lambda version=version: version.patches, lambda version=version: version.sha256)

    def _file_patches(self, model: Any, path: str) -> list[Patch] | None:
        try:
            return file_patches(path, key_map(model), model.diffusion_model.state_dict(), self._digests)
        except Exception:  # noqa: BLE001 - a file that ComfyUI cannot load explains nothing; whatever it raises is its own business
            return None

    def _remember(
        self, model: Any, name: str, path: str, seen: Stamp, versions: list[Version], patches: list[Patch] | None
    ) -> Version | None:
        sha256 = self._identities.sha256(path)
        patches = self._file_patches(model, path) if patches is None else patches
        if sha256 is None or patches is None:
            return None
        frozen = tuple(patch.frozen() for patch in patches)
        if stamp(path) != seen:
            return None
        version = Version(name, seen, sha256, frozen)
        versions.append(version)
        self._hashing.submit(settle, frozen)
        return version

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


def _live(patches: ComfyPatches, places: tuple[tuple[str, int], ...], digests: Digests) -> tuple[Patch, ...]:
    wanted = {MODEL_PREFIX + parameter: patches[MODEL_PREFIX + parameter] for parameter, _ in places}
    read = read_patches(wanted, digests)
    return tuple(read[parameter][index] for parameter, index in places)


def adapter_name(path: str) -> str | None:
    """The name in the loras folders under which ComfyUI finds this file; None where it finds another one, or none."""
    own = os.path.abspath(path)
    for folder in folder_paths.get_folder_paths("loras"):
        inside = os.path.join(os.path.abspath(folder), "")
        if own.startswith(inside):
            name = own[len(inside) :]
            return name if adapter_path(name) == path else None
    return None


def adapter_path(name: str) -> str | None:
    """The file behind a name of the loras folders."""
    return folder_paths.get_full_path("loras", name.replace("/", os.sep))


def _is_adapter(path: str) -> bool:
    """In one of the loras folders."""
    own = os.path.abspath(path)
    return any(own.startswith(os.path.join(os.path.abspath(folder), "")) for folder in folder_paths.get_folder_paths("loras"))
