"""The ordinary MODEL that stands behind a weightless one: for nodes that need weights or blocks, and for runs that no engine can do."""

from __future__ import annotations

import uuid
from typing import Any

import comfy.hooks

from .patches import ComfyPatches
from .source import ATTACHMENT, Source


def twin_of(weightless: Any, source: Source, patches: ComfyPatches | None = None, hooks: bool = False) -> Any:
    """A patcher over real weights that is in everything else what `weightless` is. `patches`: in place of its own. `hooks`: it has to take hook patches.

    Raises what ComfyUI's loader raises.
    """
    own = source.load_local()
    if hooks and getattr(own, "is_dynamic", lambda: False)():
        # ComfyUI's own rule: a patcher whose weights come and go on demand takes no hooks.
        own = own.get_non_dynamic_delegate()
    twin = own.clone()
    wanted = weightless.patches if patches is None else patches
    twin.patches = {key: list(entries) for key, entries in wanted.items()}
    # Equal ids let ComfyUI keep the patched weights from one run to the next.
    twin.patches_uuid = weightless.patches_uuid if wanted is weightless.patches else uuid.uuid4()
    twin.object_patches = dict(weightless.object_patches)
    twin.weight_wrapper_patches = dict(weightless.weight_wrapper_patches)
    twin.injections = {key: list(entries) for key, entries in weightless.injections.items()}
    twin.additional_models = {key: list(entries) for key, entries in weightless.additional_models.items()}
    twin.attachments = {key: value for key, value in weightless.attachments.items() if key != ATTACHMENT}
    twin.callbacks = {
        kind: {key: list(entries) for key, entries in keyed.items() if key != ATTACHMENT} for kind, keyed in weightless.callbacks.items()
    }
    twin.force_cast_weights = weightless.force_cast_weights
    twin.hook_mode = weightless.hook_mode
    return twin


def whole(source: Source) -> Any:
    """The ordinary MODEL for nodes, outside of a run: parts that a run of another clone left exchanged (object patches) are back. Raises what ComfyUI's loader raises."""
    local = source.load_local()
    if local.object_patches_backup:
        local.unpatch_model(unpatch_weights=False)
    return local


def register_hooks(twin: Any, model_options: dict[str, Any]) -> None:
    """The hooks that the sampler registered on the weightless MODEL before it was exchanged."""
    registered = model_options.get("registered_hooks")
    if registered is not None:
        targets = comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Model)
        twin.register_all_hook_patches(registered, targets, model_options, comfy.hooks.HookGroup())
