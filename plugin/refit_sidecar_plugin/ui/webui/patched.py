"""Extensions that reach into the UNet's own modules: an engine would not do what they do."""

from __future__ import annotations

import torch

from ..denoising import NotServed

# What an extension replaces on a module to change its work; asymmetric tiling takes the second.
REPLACED = ("forward", "_conv_forward")


def refuse_patched(unet: torch.nn.Module) -> None:
    """Raises NotServed when a module of the UNet object has a forward of its own or a hook on its results, or wraps pictures around their edges.

    Hooks that run before a module are let pass: the UIs move weights with them (--medvram).
    """
    refuse_own_forward(unet)
    for name, module in unet.named_modules():
        if getattr(module, "padding_mode", "zeros") != "zeros":
            raise NotServed("tiling", "RUN_SETTING")
        if module._forward_hooks or (any(part in module.__dict__ for part in REPLACED) and _acts(module)):
            raise NotServed(f"another extension changes the UNet's module {name}", "RUN_INSIDE_MODEL")


def refuse_own_forward(unet: torch.nn.Module) -> None:
    """Raises NotServed when the UNet object's own forward was replaced; in A1111 ControlNet's extension does that."""
    if "forward" in unet.__dict__:
        raise NotServed("another extension runs the UNet's blocks itself (ControlNet)", "RUN_INSIDE_MODEL")


def _acts(module: torch.nn.Module) -> bool:
    """Hypertile, of A1111 itself, leaves its forward in place when it is switched off."""
    hypertile = getattr(module, "__webui_hypertile_params", None)
    return hypertile is None or bool(hypertile.enabled)
