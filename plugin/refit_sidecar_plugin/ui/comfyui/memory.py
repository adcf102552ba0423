"""One device, two users: ComfyUI's models and the engines. Each makes room for the other."""

from __future__ import annotations

import contextlib

import comfy.model_management

from ...client import SidecarError
from ...engine import Link


def make_room(wanted: int) -> int:
    """Moves ComfyUI's models off the device until `wanted` bytes are free. Runs on the sampling thread, the only one that may. Returns what it freed."""
    device = comfy.model_management.get_torch_device()
    before = comfy.model_management.get_free_memory(device)
    comfy.model_management.free_memory(wanted, device)
    comfy.model_management.soft_empty_cache()
    return max(0, int(comfy.model_management.get_free_memory(device) - before))


def follow_unload(link: Link) -> None:
    """ComfyUI's "unload models" (button, POST /free, out of memory) also frees the engines."""
    original = comfy.model_management.unload_all_models
    if getattr(original, "refit_sidecar", False):
        return

    def unload_all_models() -> None:
        original()
        with contextlib.suppress(SidecarError):
            link.start("engine.free", {"engine": None})

    unload_all_models.refit_sidecar = True  # pyright: ignore[reportFunctionMemberAccess]  marks the function as ours
    comfy.model_management.unload_all_models = unload_all_models
