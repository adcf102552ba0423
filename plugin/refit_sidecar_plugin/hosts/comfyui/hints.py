"""LoRA names that recent workflows mention. They only decide which files are compared first; a name is never believed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import folder_paths

KEPT_NAMES = 200
_lock = threading.Lock()
_names: dict[str, None] = {}


def on_prompt(message: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's hook for queued prompts; changes nothing."""
    prompt = message.get("prompt")
    if isinstance(prompt, dict):
        listed = set(folder_paths.get_filename_list("loras"))
        found = [name for text in _texts(prompt) if (name := text.replace("/", os.sep)) in listed]
        with _lock:
            for name in found:
                _names.pop(name, None)
                _names[name] = None
            for name in list(_names)[:-KEPT_NAMES]:
                del _names[name]
    return message


def adapter_names() -> list[str]:
    """Most recent first."""
    with _lock:
        return list(reversed(_names))


def _texts(value: Any) -> Iterator[str]:
    """Stack nodes keep names in lists and dictionaries as well as in plain inputs."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
