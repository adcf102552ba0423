"""Whether somebody changed a torch model in place: another forward, hooks, exchanged layers. ComfyUI's own loading and patching of weights changes none of these."""

from __future__ import annotations

from collections.abc import Collection

import torch

Outline = dict[str, tuple[object, ...]]


def outline(module: torch.nn.Module) -> Outline:
    """What each part computes with, by identity. The objects are kept, so that an id cannot come back for another one."""
    return {name: _part(part) for name, part in module.named_modules()}


def changed(before: Outline, module: torch.nn.Module, patched: Collection[str] = ()) -> str | None:
    """The first part that is no longer as it was, or None. `patched`: parts that ComfyUI itself has exchanged for now, and puts back."""
    now = outline(module)
    apart = (name for name in {**before, **now} if not _same(before.get(name), now.get(name)))
    return next(
        (name or "the whole model" for name in apart if not any(name == one or name.startswith(one + ".") for one in patched)), None
    )


def _part(part: torch.nn.Module) -> tuple[object, ...]:
    return (part, type(part), part.__dict__.get("forward"), *part._forward_hooks.values(), *part._forward_pre_hooks.values())


def _same(before: tuple[object, ...] | None, now: tuple[object, ...] | None) -> bool:
    return (
        before is not None
        and now is not None
        and len(before) == len(now)
        and all(one is other for one, other in zip(before, now, strict=True))
    )
