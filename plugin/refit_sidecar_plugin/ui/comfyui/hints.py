"""LoRA names that recent workflows mention. They only decide which files are compared first; a name is never believed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import folder_paths
from server import PromptServer

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


def adapters_before(node: str | None) -> list[str]:
    """LoRA names that the running prompt mentions in this node and in those before it; empty where that cannot be told."""
    server = PromptServer.instance
    if server is None or node is None:
        return []
    running = server.prompt_queue.get_current_queue_volatile()[0]
    prompt = next((item[2] for item in running if isinstance(item[2], dict) and node in item[2]), None)
    if prompt is None:
        return []
    listed, found = set(folder_paths.get_filename_list("loras")), {}
    queue, seen = [node], set()
    while queue:
        current = queue.pop()
        inputs = prompt.get(current, {}).get("inputs", {}) if isinstance(prompt.get(current), dict) else {}
        if current in seen:
            continue
        seen.add(current)
        queue += [str(value[0]) for value in inputs.values() if isinstance(value, list) and len(value) == 2]
        found |= {name: None for text in _texts(inputs) if (name := text.replace("/", os.sep)) in listed}
    return list(found)


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
