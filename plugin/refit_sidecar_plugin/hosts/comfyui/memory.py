"""One device, two users: ComfyUI's models and the engines. Each makes room for the other when asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import comfy.model_management

from ...engine import Link, Unavailable

_lock = threading.Lock()
_asked: list[tuple[Any, int]] = []
_answer: Callable[[Any, int], None] | None = None


def follow(link: Link, subscribe: Callable[[str, Callable[[dict[str, Any]], None]], None]) -> None:
    """`subscribe` registers a handler for a notification of the sidecar."""

    def freed(request: Any, size: int) -> None:
        try:
            link.start("memory.freed", {"request": request, "bytes": size})
        except Unavailable:
            pass

    def wanted(message: dict[str, Any]) -> None:
        with _lock:
            _asked.append((message["request"], int(message["bytes"])))

    global _answer
    _answer = freed
    subscribe("memory.wanted", wanted)
    _follow_unload(link)


def make_room_when_asked() -> None:
    """Runs on the sampling thread, the only one that may move ComfyUI's models."""
    with _lock:
        asked, _asked[:] = list(_asked), []
    for request, size in asked:
        device = comfy.model_management.get_torch_device()
        before = comfy.model_management.get_free_memory(device)
        comfy.model_management.free_memory(size, device)
        comfy.model_management.soft_empty_cache()
        freed = max(0, int(comfy.model_management.get_free_memory(device) - before))
        if _answer is not None:
            _answer(request, freed)


def _follow_unload(link: Link) -> None:
    """ComfyUI's "unload models" (button, POST /free, out of memory) also frees the engines."""
    original = comfy.model_management.unload_all_models
    if getattr(original, "refit_sidecar", False):
        return

    def unload_all_models() -> None:
        original()
        try:
            link.start("engine.free", {"engine": None})
        except Unavailable:
            pass

    unload_all_models.refit_sidecar = True
    comfy.model_management.unload_all_models = unload_all_models
