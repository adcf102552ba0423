"""Recognises whole adapter files by the places that their tensors were read from: no value is hashed, and no file opened. 5 us a layer.

What is not clear at once (a tensor of unknown origin, a file in part) is left to the comparison of values (`...stack.identify`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch

from ...files import Stamp
from ...stack import FileItem, Once, Patch, StackItem, TensorRef, arrange, targets_digest
from ..denoising import NotServed
from ..denoising.origins import MappedFile, Origins
from .patches import ComfyPatches, parts_of, target_of

T = TypeVar("T")

# All that tells one patch of a file from every other: its target, its kind, and of each part the place, or the number.
Signature = tuple[object, ...]


@dataclass(frozen=True)
class Version:
    """What an adapter file was when it was matched. `patches` hold no tensors."""

    name: str
    stamp: Stamp
    sha256: str
    patches: tuple[Patch, ...]

    @cached_property
    def targets(self) -> str:
        return targets_digest(self.patches)

    @cached_property
    def signatures(self) -> dict[Signature, int] | None:
        """Of every patch, its index; None where a tensor's place is not known."""
        out: dict[Signature, int] = {}
        for index, patch in enumerate(self.patches):
            parts = tuple((part.origin(), part.shape) if isinstance(part, TensorRef) else part for _, part in patch.parts)
            if any(isinstance(part, tuple) and part[:1] == (None,) for part in parts):
                return None
            out[(patch.target, patch.kind, *parts)] = index
        return out if len(out) == len(self.patches) else None


@dataclass(frozen=True, slots=True)
class Entry:
    """One live patch. `file`: where its first tensor was read from."""

    parameter: str
    index: int
    strength: float
    file: MappedFile
    signature: Signature


def entries(patches: ComfyPatches, origins: Origins) -> Iterator[Entry | None]:
    """None for a patch with a tensor of unknown origin, and for what no adapter holds: `read_patches` says what that is."""
    for key, live in patches.items():
        for index, (strength, adapter, model_strength, offset, function) in enumerate(live):
            try:
                target = target_of(key, offset, function)
                kind, parts = parts_of(target.parameter, adapter)
            except NotServed:
                yield None
                continue
            file: MappedFile | None = None
            values: list[object] = []
            for _, value in parts:
                if isinstance(value, torch.Tensor):
                    place = origins.place(value)
                    if place is None:
                        break
                    file = file or place.file
                    values.append((place.name, tuple(value.shape)))
                elif value is None or isinstance(value, (int, float)):
                    values.append(value)
                else:
                    break
            if file is None or len(values) < len(parts) or model_strength != 1.0:
                yield None
            else:
                yield Entry(target.parameter, index, float(strength), file, (target, kind, *values))


def whole_files(
    found: list[Entry], version_of: Callable[[MappedFile], Version | None], read: Callable[[tuple[tuple[str, int], ...]], tuple[Patch, ...]]
) -> list[StackItem] | None:
    """The stack, where every entry belongs to a whole application of a file; None where one does not. `read` gives the live patches at places.

    `version_of` is asked once for each file. A file that was applied more than once is as many items.
    """
    versions: dict[int, Version | None] = {}
    times: Counter[tuple[int, float, int]] = Counter()
    groups: dict[tuple[int, float, int], list[tuple[Entry, int]]] = defaultdict(list)
    for entry in found:
        number = id(entry.file)
        if number not in versions:
            versions[number] = version_of(entry.file)
        version = versions[number]
        index = None if version is None or version.signatures is None else version.signatures.get(entry.signature)
        if index is None:
            return None
        times[(number, entry.strength, index)] += 1
        groups[(number, entry.strength, times[(number, entry.strength, index)])].append((entry, index))
    files: list[FileItem] = []
    labels: dict[str, dict[int, int | None]] = defaultdict(dict)
    changed: dict[str, dict[int, Patch]] = defaultdict(dict)
    for (number, strength, _), members in groups.items():
        version = versions[number]
        if version is None or len(members) != len(version.patches):
            return None
        places = tuple((entry.parameter, entry.index) for entry, _ in members)
        for entry, index in members:
            labels[entry.parameter][entry.index] = len(files)
            changed[entry.parameter][entry.index] = version.patches[index]
        own = Once(lambda places=places: read(places))
        files.append(FileItem(version.name, version.sha256, strength, places, own, lambda version=version: version.targets))
    items = arrange(_in_order(changed), _in_order(labels), files)
    # Two files in opposite order on two parameters: one of them goes by content, which is not here.
    return items if all(isinstance(item, FileItem) for item in items) else None


def _in_order(by_place: dict[str, dict[int, T]]) -> dict[str, list[T]]:
    return {parameter: [own[index] for index in sorted(own)] for parameter, own in by_place.items()}
