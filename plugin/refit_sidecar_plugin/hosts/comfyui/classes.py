"""Which of ComfyUI's model classes an engine speaks."""

from __future__ import annotations

import comfy.model_base

from ..denoising import FLUX, SD3, UNET, CallShape


def call_shape(model: object) -> CallShape | None:
    """None: no engine speaks this model class."""
    if type(model) in (comfy.model_base.BaseModel, comfy.model_base.SDXL, comfy.model_base.SDXLRefiner, comfy.model_base.SD21UNCLIP):
        return UNET
    if type(model) is comfy.model_base.SD3:
        return SD3
    if type(model) is comfy.model_base.Flux:
        return FLUX
    return None
