"""ComfyUI's map from adapter names to parameters, made once per model."""

from __future__ import annotations

import weakref
from typing import Any

import comfy.lora

_maps: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()


def key_map(model: Any) -> dict[str, str]:
    """`model`: a BaseModel. The map depends on its parameter names and configuration only, which never change."""
    known = _maps.get(model)
    if known is None:
        known = comfy.lora.model_lora_keys_unet(model, {})
        _maps[model] = known
    return known
