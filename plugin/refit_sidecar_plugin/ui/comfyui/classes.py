"""Which of ComfyUI's model classes an engine speaks."""

from __future__ import annotations

from comfy.model_base import BaseModel

from .. import denoising
from ..denoising import CallShape


def call_shape(model: object) -> CallShape | None:
    """None: no engine speaks this model class. A class of another package that has the name of one of ComfyUI's is none either."""
    own = type(model).__module__ == BaseModel.__module__
    return denoising.call_shape("comfyui", type(model).__name__) if own else None
