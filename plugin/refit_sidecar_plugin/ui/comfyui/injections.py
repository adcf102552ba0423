"""What nodes do to a model's modules for the time of a run. ComfyUI's bypass LoRA loaders are adapters in another dress; anything else is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.weight_adapter

from ..denoising import NotServed
from .patches import MODEL_PREFIX, PARTS, ComfyPatches

# Kinds whose bypass computes what a merged weight would, and the parts that bypass mode leaves out.
_LEFT_OUT = {"lora": ("dora_scale", "reshape_weight"), "loha": ("dora_scale",), "lokr": ("dora_scale",)}


def bypass_patches(patcher: Any) -> ComfyPatches:
    """The adapters of bypass loaders as patches, to be applied after the MODEL's own. Raises NotServed for any other injection."""
    out: ComfyPatches = {}
    for name, injections in patcher.injections.items():
        for injection in injections:
            manager = _manager(injection)
            if manager is None:
                raise NotServed(f"a node that changes the model's layers while it runs ({name})", "RUN_INSIDE_MODEL")
            for key, entry in _adapters(manager):
                out.setdefault(key, []).append(entry)
    return out


def bypass_managers(patcher: Any) -> tuple[object, ...]:
    """They tell two states of one MODEL apart, as `patches_uuid` does for its patches."""
    found = (_manager(injection) for injections in patcher.injections.values() for injection in injections)
    return tuple(manager for manager in found if manager is not None)


def _manager(injection: Any) -> Any:
    """The manager that made this injection. It is nowhere else than in the closure of the function."""
    kind = getattr(comfy.weight_adapter, "BypassInjectionManager", None)
    cells = getattr(getattr(injection, "inject", None), "__closure__", None) or ()
    return next((cell.cell_contents for cell in cells if kind is not None and isinstance(cell.cell_contents, kind)), None)


def _adapters(manager: Any) -> Iterator[tuple[str, tuple]]:
    hooked = {id(hook.adapter) for hook in manager.hooks}
    for name, (adapter, strength) in manager.adapters.items():
        if id(adapter) not in hooked or strength == 0:
            continue
        kind = getattr(adapter, "name", type(adapter).__name__)
        if not name.startswith(MODEL_PREFIX) or kind not in _LEFT_OUT:
            raise NotServed(f"a bypass LoRA of kind {kind!r} on {name}", "RUN_ADAPTER_KIND")
        parts = dict(zip(PARTS[kind], adapter.weights, strict=False))
        if any(parts.get(part) is not None for part in _LEFT_OUT[kind]):
            raise NotServed(
                f"a bypass LoRA with parts that ComfyUI leaves out in bypass mode ({', '.join(_LEFT_OUT[kind])})", "RUN_ADAPTER_KIND"
            )
        yield f"{name}.weight", (strength, adapter, 1.0, None, None)
