"""One denoiser call, from a UI's arguments to the engine's inputs, per model class. What an engine cannot do is named, never dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...families import call_of

# Keys of transformer_options that describe the call and change nothing in the model: ComfyUI's, then those that only Forge has.
DESCRIPTIVE = frozenset({
    "sigmas", "sample_sigmas", "cond_or_uncond", "uuids", "wrappers", "callbacks", "original_shape", "transformer_index", "block",
    "prefetch_dynamic_vbars",
    "cond_mark", "cond_indices", "uncond_indices",
})  # fmt: skip


class NotServed(Exception):
    """This call or run is beyond an engine; the UI's own path has to do it. The text completes the sentence "not on an engine: ..."."""


@dataclass(frozen=True)
class CallShape:
    """Argument order of a model class's forward, and which engine input each tensor becomes."""

    positional: tuple[str, ...]
    inputs: Mapping[str, str]
    #: Arguments that are the same over a run.
    once_per_run: frozenset[str]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str] = frozenset()


def call_shape(ui: str, class_name: str) -> CallShape | None:
    """How a UI's model class is called ("comfyui", "forge"); None when no engine speaks the class."""
    found = call_of(ui, class_name)
    if found is None:
        return None
    arguments = {argument for argument, name in found.inputs.items() if name in found.once_per_run}
    return CallShape(found.arguments, found.inputs, frozenset(arguments), found.ignored)


# A1111 knows UNets only, and gives them as ComfyUI does.
UNET: CallShape = call_shape("comfyui", "BaseModel")  # type: ignore[assignment]


@dataclass
class Call:
    """Tensors by engine input name; those of `once` are the same over many steps of a run."""

    tensors: dict[str, torch.Tensor]
    once: frozenset[str]
    residuals: tuple[torch.Tensor, ...]
    x: torch.Tensor


def read_call(shape: CallShape, args: tuple, kwargs: dict) -> Call:
    """`args` in the class's own order. Raises NotServed with the first thing that no engine input can carry."""
    named = dict(zip(shape.positional, args, strict=False)) | kwargs
    refuse_patches(named.pop("transformer_options", None) or {})
    control = named.pop("control", None)
    tensors: dict[str, torch.Tensor] = {}
    for name, value in named.items():
        if value is None or name in shape.ignored:
            continue
        if name not in shape.inputs or not isinstance(value, torch.Tensor):
            raise NotServed(f"the model argument {name!r} has no engine input")
        tensors[shape.inputs[name]] = value
    once = frozenset(shape.inputs[name] for name in shape.once_per_run if name in shape.inputs)
    return Call(tensors, once, residuals(control or {}), named[shape.positional[0]])


def refuse_patches(transformer_options: Mapping[str, object]) -> None:
    """Raises NotServed for anything in transformer_options that reaches into the model's blocks."""
    for key, value in transformer_options.items():
        empty = value is None or value is False or (isinstance(value, (dict, list, tuple)) and not value)
        if key not in DESCRIPTIVE and not empty:
            kinds = ", ".join(sorted(map(str, value))) if isinstance(value, dict) else key
            raise NotServed(f"a patch inside the model ({kinds})")


def residuals(control: Mapping[str, list]) -> tuple[torch.Tensor, ...]:
    """ControlNet residuals: one per skip connection, first block first, then the middle block's. Empty without a ControlNet.

    The UIs take these lists from the end while they walk the skip connections backwards, so an entry's index is its skip connection's.
    """
    if any(value is not None for value in control.get("input", ())):
        raise NotServed("a T2I adapter or another control of the input blocks")
    output, middle = list(control.get("output", ())), list(control.get("middle", ()))
    if not output and not middle:
        return ()
    if len(middle) != 1 or any(value is None for value in (*output, *middle)):
        raise NotServed("a ControlNet that leaves out some residuals")
    return (*output, *middle)
