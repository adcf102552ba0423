"""Forge's `process_before_every_sampling`: puts an engine behind the UNet of this one sampling run, or leaves everything as it is."""

from __future__ import annotations

import os
from typing import Any

import torch

from ....client import SidecarError
from ...denoising import NotServed, refuse_patches
from ..desired import Desired
from ..interrupt import Stopped, check_preparing
from ..patched import refuse_patched
from ..prompt_networks import refuse_foreign
from ..report import stayed_local
from ..session import Session
from ..wish import Wish
from . import memory
from .loading import refuse_references
from .patcher import shape_of, stack_of, with_adapters_of, without_adapters
from .wrapper import EngineWrapper

WRAPPER = "model_function_wrapper"


class ForgeHook:
    """One per UI process, used by the sampling thread only. At most one wrapper is in use."""

    def __init__(self) -> None:
        self._wrapper: EngineWrapper | None = None
        # The run that is being sampled on an engine: processing, wish, conditionings.
        self._run: tuple[Any, Wish, tuple[Any, Any]] | None = None

    def before_sampling(self, processing: Any, wish: Wish, x: torch.Tensor, conditionings: tuple[Any, Any]) -> None:
        """Forge resets the patcher before each run, and in the hires pass calls twice; the last call decides."""
        objects = processing.sd_model.forge_objects
        if isinstance(objects.unet.model_options.get(WRAPPER), EngineWrapper):
            # The first of the hires pass's two calls, on the patcher of the first pass.
            return
        self.end()
        if not wish.enabled:
            return
        name = os.path.basename(processing.sd_model.sd_checkpoint_info.filename)
        try:
            wrapper = _opened(processing, objects.unet, wish, x, conditionings)
        except (NotServed, SidecarError) as error:
            stayed_local(processing, name, error)
        except Stopped:
            # The sampler starts, sees the button itself and ends the picture.
            return
        else:
            objects.unet = without_adapters(wrapper.own)
            memory.keep_off_device(objects.unet)
            objects.unet.set_model_unet_function_wrapper(wrapper)
            self._wrapper, self._run = wrapper, (processing, wish, conditionings)

    def before_step(self, x: torch.Tensor) -> None:
        """An extension whose hook ran after ours may have put a wrapper in our wrapper's place: then its patcher gets the LoRAs and the device back.
        A refiner may have taken over within the run: then an engine is asked for its checkpoint.
        """
        wrapper, run = self._wrapper, self._run
        if wrapper is None or run is None:
            return
        objects = run[0].sd_model.forge_objects
        unet = objects.unet
        if unet.model is not wrapper.own.model:
            self.before_sampling(run[0], run[1], x, run[2])
            if self._wrapper is not None:
                memory.move_off(objects.unet)
        elif unet.model_options.get(WRAPPER) is not wrapper:
            self._wrapper = None
            wrapper.give_up(NotServed("another extension wraps the model", "RUN_INSIDE_MODEL"))
            objects.unet = with_adapters_of(unet, wrapper.own)
            memory.bring_back(objects.unet, x.shape)

    def end(self) -> None:
        """The sampling run is over. Idempotent."""
        wrapper, self._wrapper, self._run = self._wrapper, None, None
        if wrapper is not None:
            wrapper.session.close()


def _opened(processing: Any, unet: Any, wish: Wish, x: torch.Tensor, conditionings: tuple[Any, Any]) -> EngineWrapper:
    """Raises NotServed, SidecarError or Stopped; then nothing was changed."""
    shape = shape_of(unet)
    refuse_references(processing.sd_model)
    _refuse(processing, unet)
    desired = Desired(processing.sd_model.sd_checkpoint_info.filename, stack_of(unet, processing.sd_model))
    session = Session(desired, wish, memory.make_room)
    try:
        session.open(check_preparing, residuals=getattr(unet, "controlnet_linked_list", None) is not None)
    except BaseException:
        session.close()
        raise
    return EngineWrapper(session, shape, unet, lambda error: stayed_local(processing, desired.name, error))


def _refuse(processing: Any, unet: Any) -> None:
    """Raises NotServed for what is known to be beyond an engine before the first step."""
    tags = "hr_extra_network_data" if getattr(processing, "is_hr_pass", False) else "extra_network_data"
    refuse_foreign(getattr(processing, tags, None) or {})
    if WRAPPER in unet.model_options:
        raise NotServed("another extension wraps the model", "RUN_INSIDE_MODEL")
    if unet.object_patches:
        raise NotServed(f"another extension replaced parts of the model ({', '.join(sorted(unet.object_patches))})", "RUN_INSIDE_MODEL")
    refuse_patches(unet.model_options.get("transformer_options", {}))
    refuse_patched(unet.model.diffusion_model)
