"""Puts an engine under one sampling run, or ComfyUI's own path when the engine cannot serve.

Weightless MODEL (mode A): the whole run is on an engine or the whole run is local; a run that loses its engine starts again locally, so a
picture never comes from both. MODEL with weights (mode B): each call may go either way; after a failure the rest of the run stays local.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.hooks
import comfy.patcher_extension
import torch

from ...client import SidecarError
from ..denoising import Answerer, CallShape, NotServed, made_by, read_call, refuse_patches
from .collector import old_objects_rest
from .conditioning import on_device
from .denoiser import denoiser_of
from .fallback import sampling_locally
from .negotiation import open_run, read_stack
from .patches import MODEL_PREFIX
from .report import served, stayed_local
from .source import ATTACHMENT, Source


def install(patcher: Any) -> None:
    """Mode A: every run of this MODEL asks for an engine first."""
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, ATTACHMENT, _sample_weightless)
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, ATTACHMENT, steps_of(_is_answered))


def install_beside(patcher: Any, source: Source, shape: CallShape) -> None:
    """Mode B: the MODEL keeps its weights; calls go to the engine where it can do them."""
    beside = _Beside(source, shape, patcher.model.model_config.unet_config)
    _replace(patcher, comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, beside.sample)
    _replace(patcher, comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, beside.call)
    _replace(patcher, comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, steps_of(lambda guider: beside.answered))


def install_local(patcher: Any, source: Source, reason: str) -> None:
    """An ordinary MODEL in place of an engine's: its runs tell why."""

    def sample(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        stayed_local(source, NotServed(reason, "RUN_FILE"))
        return executor(*args, **kwargs)

    _replace(patcher, comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, sample)


def _replace(patcher: Any, kind: str, wrapper: Any) -> None:
    patcher.remove_wrappers_with_key(kind, ATTACHMENT)
    patcher.add_wrapper_with_key(kind, ATTACHMENT, wrapper)


def steps_of(is_answered: Callable[[Any], bool]) -> Callable[..., Any]:
    """A wrapper of SAMPLER_SAMPLE, which ComfyUI calls with the guider when the conditioning is processed and models are loaded. `is_answered`: whether an
    engine answers this guider's calls; ComfyUI's own path keeps its own way.
    """

    def sample(executor: Any, guider: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not is_answered(guider):
            return executor(guider, *args, **kwargs)
        guider.conds = on_device(guider.conds, guider.model_patcher.load_device)
        with old_objects_rest():
            return executor(guider, *args, **kwargs)

    return sample


def _is_answered(guider: Any) -> bool:
    denoiser = denoiser_of(guider.model_patcher)
    return denoiser is not None and denoiser.answer is not None


def _sample_weightless(executor: Any, noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    guider = executor.class_obj
    patcher = guider.model_patcher
    source: Source = patcher.get_attachment(ATTACHMENT)
    denoiser = denoiser_of(patcher)
    if denoiser is None:
        stayed_local(source, NotServed("a copy of the model for another device, which has weights of its own", "RUN_SETTING"))
        return executor(noise, *args, **kwargs)
    # Sampling rewrites the conditioning in place; a second attempt starts from what the first one started from.
    conds = {kind: [dict(cond) for cond in entries] for kind, entries in guider.conds.items()}
    reading = run = None
    try:
        denoiser.refuse_changes()
        _refuse_run(guider)
        reading = read_stack(patcher)
        run = open_run(source, reading, _residuals(guider, denoiser.call_shape))
        outer, denoiser.answer = denoiser.answer, Answerer(run)
        denoiser.patched = frozenset(patcher.patches)
        try:
            result = executor(noise, *args, **kwargs)
        finally:
            denoiser.answer = outer
        served(source, run.report)
        return result
    except (NotServed, SidecarError) as error:
        reason = stayed_local(source, error)
        guider.conds = conds
        with sampling_locally(guider, source, reading, reason):
            return executor(noise, *args, **kwargs)
    finally:
        if run is not None:
            run.close()


class _Beside:
    """State of mode B for one accelerated MODEL; its clones share it, as they share the weights."""

    def __init__(self, source: Source, shape: CallShape, configuration: Mapping[str, object]) -> None:
        self._source, self._shape, self._configuration = source, shape, configuration
        self._answer: Answerer | None = None

    @property
    def answered(self) -> bool:
        """An engine answers the calls of the run that is under way."""
        return self._answer is not None

    def sample(self, executor: Any, noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        guider = executor.class_obj
        run = None
        try:
            _refuse_run(guider)
            run = open_run(self._source, read_stack(guider.model_patcher), _residuals(guider, self._shape))
        except (NotServed, SidecarError) as error:
            stayed_local(self._source, error)
        outer, self._answer = self._answer, Answerer(run) if run is not None else None
        try:
            result = executor(noise, *args, **kwargs)
            if self._answer is not None and run is not None:
                served(self._source, run.report)
            return result
        finally:
            self._answer = outer
            if run is not None:
                run.close()

    def call(self, executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self._answer is None:
            return executor(*args, **kwargs)
        try:
            return self._answer(read_call(self._shape, args, kwargs, self._configuration))
        except (NotServed, SidecarError) as error:
            stayed_local(self._source, error)
            self._answer = None
            return executor(*args, **kwargs)


def _residuals(guider: Any, shape: CallShape) -> bool:
    """Whether the run has a ControlNet whose answers need inputs that not every engine of the structure has."""
    return not shape.controls and any("control" in cond for entries in guider.conds.values() for cond in entries)


def _refuse_run(guider: Any) -> None:
    """Raises NotServed for what is known to be beyond an engine before the first step."""
    patcher = guider.model_patcher
    refuse_patches(guider.model_options.get("transformer_options", {}))
    registered = guider.model_options.get("registered_hooks")
    if registered is not None and registered.get_type(comfy.hooks.EnumHookType.Weight):
        raise NotServed("a LoRA or model hook that changes weights during the run", "RUN_WEIGHTS_CHANGE")
    if any("gligen" in cond for entries in guider.conds.values() for cond in entries):
        raise NotServed("GLIGEN conditioning", "RUN_INPUT")
    inside = next((name for name in patcher.object_patches if name.startswith(MODEL_PREFIX)), None)
    if inside is not None:
        raise NotServed(f"{made_by(patcher.object_patches[inside])}, which replaces a part of the model ({inside})", "RUN_INSIDE_MODEL")
    if any(patcher.weight_wrapper_patches.values()):
        raise NotServed(
            f"a node that computes weights while the model runs ({next(iter(patcher.weight_wrapper_patches))})", "RUN_INSIDE_MODEL"
        )
