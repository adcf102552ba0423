"""ComfyUI's map from adapter names to parameters, made once per model."""

from __future__ import annotations

import weakref
from typing import Any

import comfy.lora


class KeyMap(dict[str, str]):
    """`number`: equal for equal maps, so that what a file gave on one model holds for every model of its structure; no other map of this process ever has it."""

    _numbers: dict[frozenset[tuple[str, str]], int] = {}

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__(names)
        self.number = self._numbers.setdefault(frozenset(names.items()), len(self._numbers))


_maps: weakref.WeakKeyDictionary[Any, KeyMap] = weakref.WeakKeyDictionary()


def key_map(model: Any) -> KeyMap:
    """`model`: a BaseModel. The map depends on its parameter names and configuration only, which never change."""
    known = _maps.get(model)
    if known is None:
        known = KeyMap(comfy.lora.model_lora_keys_unet(model, {}))
        _maps[model] = known
    return known
