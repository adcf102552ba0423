"""The ordinary MODEL in place of a weightless one, for one whole sampling run: same patches, same hooks, ComfyUI's own loader and memory management."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import comfy.hooks
import comfy.model_management
import comfy.model_patcher

from .patches import ComfyPatches
from .source import ATTACHMENT, Source

# Without CUDA ComfyUI sets OOM_EXCEPTION to Exception itself; then only Python's own error means memory.
OUT_OF_MEMORY = (MemoryError,) if comfy.model_management.OOM_EXCEPTION is Exception else (MemoryError, comfy.model_management.OOM_EXCEPTION)


class DoesNotFit(RuntimeError):
    """Neither the engine nor ComfyUI's own path can run this."""


def local_twin(weightless: comfy.model_patcher.ModelPatcher, source: Source, patches: ComfyPatches) -> comfy.model_patcher.ModelPatcher:
    """A patcher over real weights that is in everything else what `weightless` is."""
    twin = source.load_local().clone()
    twin.patches = {key: list(entries) for key, entries in patches.items()}
    # Equal ids let ComfyUI keep the patched weights from one run to the next.
    twin.patches_uuid = weightless.patches_uuid if patches is weightless.patches else uuid.uuid4()
    twin.object_patches = dict(weightless.object_patches)
    twin.weight_wrapper_patches = dict(weightless.weight_wrapper_patches)
    twin.injections = {key: list(entries) for key, entries in weightless.injections.items()}
    twin.additional_models = {key: list(entries) for key, entries in weightless.additional_models.items()}
    twin.attachments = {key: value for key, value in weightless.attachments.items() if key != ATTACHMENT}
    twin.callbacks = {kind: {key: list(entries) for key, entries in keyed.items() if key != ATTACHMENT} for kind, keyed in weightless.callbacks.items()}
    twin.force_cast_weights = weightless.force_cast_weights
    twin.hook_mode = weightless.hook_mode
    return twin


@contextmanager
def sampling_locally(guider: object, source: Source, patches: ComfyPatches, reason: str) -> Iterator[None]:
    """Makes `guider` sample on the ordinary MODEL with these LoRA patches. Wrappers of other nodes stay in the guider's model options. Raises DoesNotFit."""
    weightless = guider.model_patcher
    try:
        twin = local_twin(weightless, source, patches)
    except OUT_OF_MEMORY as error:
        raise DoesNotFit(_text(source, reason)) from error
    _register_hooks(twin, guider)
    guider.model_patcher = twin
    try:
        yield
    except OUT_OF_MEMORY as error:
        raise DoesNotFit(_text(source, reason)) from error
    finally:
        twin.restore_hook_patches()
        guider.model_patcher = weightless


def _register_hooks(twin: comfy.model_patcher.ModelPatcher, guider: object) -> None:
    registered = guider.model_options.get("registered_hooks")
    if registered is not None:
        targets = comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Model)
        twin.register_all_hook_patches(registered, targets, guider.model_options, comfy.hooks.HookGroup())


def _text(source: Source, reason: str) -> str:
    return (
        f"Refit: {source.name} cannot run. Not on an engine: {reason}. Not in ComfyUI itself: the checkpoint does not fit into memory. "
        "Free memory, or choose a smaller checkpoint."
    )
