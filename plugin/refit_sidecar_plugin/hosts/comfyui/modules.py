"""Whether somebody changed a torch model in place: another forward, hooks, exchanged layers. ComfyUI's own loading and patching of weights changes none of these."""

from __future__ import annotations

import torch

Outline = dict[str, tuple[object, ...]]


def outline(module: torch.nn.Module) -> Outline:
    """What each part computes with, by identity. The objects are kept, so that an id cannot come back for another one."""
    return {name: _part(part) for name, part in module.named_modules()}


def changed(before: Outline, module: torch.nn.Module) -> str | None:
    """The first part that is no longer as it was, or None."""
    now = outline(module)
    return next((name or "the whole model" for name in {**before, **now} if not _same(before.get(name), now.get(name))), None)


def _part(part: torch.nn.Module) -> tuple[object, ...]:
    hooks = (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
    return (type(part), part.__dict__.get("forward"), *hooks, *part._modules.values())


def _same(before: tuple[object, ...] | None, now: tuple[object, ...] | None) -> bool:
    return before is not None and now is not None and len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))
