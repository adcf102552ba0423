"""A MODEL from a checkpoint's name, without loading its diffusion weights."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher

from ...families import served_titles
from .checkpoint import NotACheckpoint, detect
from .classes import call_shape
from .denoiser import RemoteDenoiser
from .sampling import install
from .source import ATTACHMENT, Source


def weightless_model(source: Source) -> comfy.model_patcher.ModelPatcher:
    """Raises NotACheckpoint with what to do; HeaderError or OSError for a file that cannot be read."""
    detected = detect(source.path)
    shape = call_shape(detected.model)
    if shape is None:
        raise NotACheckpoint(
            f"{source.name} is a {type(detected.model).__name__} model; engines serve {', '.join(served_titles('comfyui'))}. Use Load Checkpoint for it."
        )
    model = detected.model
    model.diffusion_model = RemoteDenoiser(detected.parameters, detected.model_config.unet_config["dtype"], shape)
    # The engine splits batches itself, so ComfyUI may hand over conditional and unconditional parts in one call.
    model.memory_required = lambda *args, **kwargs: 0
    # size=1: ComfyUI would otherwise count the meta tensors as memory to reserve.
    patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=comfy.model_management.unet_offload_device(), size=1
    )
    patcher.set_attachments(ATTACHMENT, source)
    install(patcher)
    return patcher
