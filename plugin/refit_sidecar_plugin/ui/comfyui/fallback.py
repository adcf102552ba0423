"""The ordinary MODEL in place of a weightless one, for one whole sampling run: same patches, same hooks, ComfyUI's own loader and memory management."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management

from .ordinary import register_hooks, twin_of
from .source import Source
from .stack_reader import Reading


class DoesNotFit(RuntimeError):
    """Neither the engine nor ComfyUI's own path can run this."""


@contextmanager
def sampling_locally(guider: Any, source: Source, reading: Reading | None, reason: str) -> Iterator[None]:
    """Makes `guider` sample on the ordinary MODEL with the LoRA patches that were read, or its own where they were not.

    Wrappers of other nodes stay in the guider's model options. Raises DoesNotFit.
    """
    weightless = guider.model_patcher
    hooks = guider.model_options.get("registered_hooks") is not None
    try:
        guider.model_patcher = twin = twin_of(weightless, source, reading.patches if reading else None, hooks)
        if reading is not None and reading.replaced:
            twin.injections = {}
        register_hooks(twin, guider.model_options)
        try:
            yield
        finally:
            twin.restore_hook_patches()
    except Exception as error:
        if not _out_of_memory(error):
            raise
        raise DoesNotFit(
            f"Refit: {source.name} cannot run. Not on an engine: {reason}. Not in ComfyUI itself: the checkpoint does not fit into memory. "
            "Free memory, or choose a smaller checkpoint."
        ) from error
    finally:
        guider.model_patcher = weightless


def _out_of_memory(error: Exception) -> bool:
    management = comfy.model_management
    if isinstance(error, MemoryError):
        return True
    # Without CUDA ComfyUI sets OOM_EXCEPTION to Exception itself, which would take every error for one of memory.
    if management.OOM_EXCEPTION is Exception:
        return False
    newer = getattr(management, "is_oom", None)
    return bool(newer(error)) if newer is not None else isinstance(error, management.OOM_EXCEPTION)
