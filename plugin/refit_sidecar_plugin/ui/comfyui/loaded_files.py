"""What ComfyUI's own LoRA loaders made of whole files. A sampler that asks what a file holds need not read and interpret it a second time."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.lora

from ...files import Stamp
from ..denoising.origins import MappedFile, Origins

KEPT_FILES = 16


@dataclass(frozen=True)
class Loaded:
    """`held`: (key of `load_lora`'s answer, weak references to what stands there). Adapters that no MODEL has any more are not kept alive."""

    stamp: Stamp
    key_map: Mapping[str, Any]
    held: tuple[tuple[Any, Any], ...]


class LoadedFiles:
    """Used by the thread that runs nodes only."""

    def __init__(self, origins: Origins, matched: Callable[[MappedFile], bool]) -> None:
        """`matched`: nobody will ask what this file holds."""
        self._origins, self._matched = origins, matched
        self._known: dict[str, Loaded] = {}

    def follow(self) -> None:
        """From now on every `load_lora` of a whole file is noted. Nothing is changed in what it gives."""
        load = comfy.lora.load_lora

        def load_and_note(lora: Any, to_load: Any, *args: Any, **kwargs: Any) -> Any:
            # A loader may take entries out of the dictionary.
            tensors = list(lora.values()) if isinstance(lora, Mapping) else []
            loaded = load(lora, to_load, *args, **kwargs)
            if tensors and isinstance(loaded, dict):
                self._note(tensors, to_load, loaded)
            return loaded

        comfy.lora.load_lora = load_and_note

    def of(self, path: str, seen: Stamp, key_map: Mapping[str, Any]) -> dict[Any, Any] | None:
        """What `load_lora` gave for the file as `seen`, with a key map that has this one's names; None where that is not known, or gone."""
        known = self._known.get(path)
        if known is None or known.stamp != seen or not key_map.items() <= known.key_map.items():
            return None
        out = {key: _alive(held) for key, held in known.held}
        return None if None in out.values() else out

    def _note(self, tensors: list[Any], key_map: Mapping[str, Any], loaded: dict[Any, Any]) -> None:
        first = next((file for one in tensors if (file := self._origins.noted(one)) is not None), None)
        file = None if first is None or self._matched(first) else self._origins.read_from(tensors)
        if file is None:
            return
        try:
            held = tuple((key, _weak(value)) for key, value in loaded.items())
        except TypeError:
            # Something that cannot be referred to weakly.
            return
        self._known.pop(file.path, None)
        self._known[file.path] = Loaded(file.stamp, key_map, held)
        while len(self._known) > KEPT_FILES:
            self._known.pop(next(iter(self._known)))


def _weak(value: Any) -> Any:
    """An adapter is an object; a replaced or an added weight is ("diff", (tensor, ...))."""
    if isinstance(value, tuple):
        kind, parts = value
        return kind, tuple(weakref.ref(part) for part in parts)
    return weakref.ref(value)


def _alive(held: Any) -> Any:
    if not isinstance(held, tuple):
        return held()
    kind, references = held
    parts = tuple(reference() for reference in references)
    return None if None in parts else (kind, parts)
