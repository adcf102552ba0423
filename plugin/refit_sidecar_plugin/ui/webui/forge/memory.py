"""Forge's own UNet stays off the device while an engine serves, and comes back when it does not."""

from __future__ import annotations

import importlib
from typing import Any

import torch


def _manager() -> Any:
    """Forge's memory management; forks keep ComfyUI's name for it."""
    try:
        return importlib.import_module("backend.memory_management")
    except ModuleNotFoundError:
        return importlib.import_module("ldm_patched.modules.model_management")


def keep_off_device(unet: Any) -> None:
    """Makes `unet` load where its weights rest: what the sampler loads then takes no device memory, and moves weights off the device if they are there."""
    unet.load_device = unet.offload_device
    if hasattr(unet, "set_memory_peak_estimation_modifier"):
        unet.set_memory_peak_estimation_modifier(lambda shape: 0)
    else:
        # Forge Neo has no such hook; its sampler asks the patcher itself. A clone asks its class again.
        unet.memory_required = lambda input_shape: 0


def move_off(unet: Any) -> None:
    """Loads a patcher of `keep_off_device` where another one of the same model was loaded before."""
    _manager().load_models_gpu([unet], memory_required=0)


def bring_back(unet: Any, shape: torch.Size) -> None:
    """Loads the ordinary patcher with its LoRAs, as the sampler would have done for a latent of this shape."""
    batch, *rest = shape
    needed = unet.model_options.get("memory_peak_estimation_modifier", unet.memory_required)([batch * 2, *rest])
    _manager().load_models_gpu([unet], memory_required=needed)


def make_room(wanted: int) -> int:
    """Moves the UI's models off the device until `wanted` bytes are free. Runs on the sampling thread. Returns what it freed."""
    manager = _manager()
    device = manager.get_torch_device()
    before = manager.get_free_memory(device)
    manager.free_memory(wanted, device)
    manager.soft_empty_cache()
    return max(0, int(manager.get_free_memory(device) - before))
