"""A MODEL from a checkpoint's name, without loading its diffusion weights; an ordinary one where no engine can serve its class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension

from ...files import HeaderError
from ..denoising import NotServed
from .checkpoint import NotACheckpoint, detect
from .classes import call_shape
from .denoiser import RemoteDenoiser, denoiser_of
from .ordinary import twin_of, whole
from .report import stayed_local
from .sampling import install, install_local
from .source import ATTACHMENT, Source, load_ordinary


class EnginePatcher(comfy.model_patcher.ModelPatcher):
    """A MODEL without weights. What needs them gets those of the ordinary MODEL behind it, loaded when first asked for."""

    _standing_in: Any = None
    _loading_nothing = False

    def is_dynamic(self):
        """ComfyUI 0.33 asks it of each model that it loads: for one that is not dynamic it takes a gigabyte and more from those that are. While a run is
        prepared, this one says that it is, since it loads nothing. Otherwise it has no weights that ComfyUI could page.
        """
        return self._loading_nothing

    @contextmanager
    def loading_nothing(self) -> Iterator[None]:
        self._loading_nothing = True
        try:
            yield
        finally:
            self._loading_nothing = False

    def partially_unload_ram(self, *_given, **_named):
        return 0

    def unregister_inactive_pins(self, *_given, **_named):
        return 0

    def get_key_patches(self, filter_prefix=None):
        """Merges, subtractions and extractions start from here: the weights, with the patches that come after them."""
        return self._twin().get_key_patches(filter_prefix)

    def state_dict_for_saving(self, *args, **kwargs):
        """ComfyUI 0.33 and later save through the patcher."""
        twin = self._twin()
        comfy.model_management.load_models_gpu([twin])
        return twin.state_dict_for_saving(*args, **kwargs)

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        if not force_patch_weights:
            return super().partially_load(device_to, extra_memory)
        self.become_ordinary("a node needs the model's own weights (it saves, merges or extracts them)")
        comfy.model_management.free_memory(self.model_size(), device_to)
        return self.partially_load(device_to, extra_memory, force_patch_weights=True)

    def pre_run(self):
        super().pre_run()
        denoiser = denoiser_of(self)
        if denoiser is not None and denoiser.answer is None:
            self._stand_in()

    def _stand_in(self) -> None:
        """A guider that samples on another MODEL calls this one beside it (a second model for the negative). Two states of one engine would be exchanged at
        every step, which takes longer than ComfyUI's own path.
        """
        source = self.get_attachment(ATTACHMENT)
        stayed_local(source, NotServed("a guider that calls two models at every step", "RUN_SETTING"))
        twin = twin_of(self, source)
        comfy.model_management.load_models_gpu([twin])
        twin.pre_run()
        self._standing_in = twin
        self.model.apply_model = twin.model.apply_model

    def cleanup(self):
        twin, self._standing_in = self._standing_in, None
        if twin is not None:
            del self.model.apply_model
            twin.cleanup()
        super().cleanup()

    def become_ordinary(self, reason: str) -> None:
        """From here on this one patcher (its clones stay as they are) is the ordinary MODEL: ComfyUI patches weights in place only to read them afterwards."""
        source = self.get_attachment(ATTACHMENT)
        twin = self._twin()
        wrappers, options = self.wrappers, self.model_options
        self.__class__ = type(twin)
        self.__dict__ = {**twin.__dict__, "wrappers": wrappers, "model_options": options}
        install_local(self, source, reason)

    def _twin(self) -> Any:
        source = self.get_attachment(ATTACHMENT)
        whole(source)
        return twin_of(self, source)


def _prepare(executor: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Around ComfyUI's loading of what a run needs; with an ordinary MODEL in this one's place, as always."""
    if not isinstance(model, EnginePatcher):
        return executor(model, *args, **kwargs)
    with model.loading_nothing():
        return executor(model, *args, **kwargs)


def weightless_model(source: Source) -> EnginePatcher:
    """Raises NotACheckpoint with what to do; HeaderError or OSError for a file that cannot be read."""
    detected = detect(source.path)
    shape = call_shape(detected.model)
    if shape is None:
        raise NotACheckpoint(f"models of class {type(detected.model).__name__} have no engine")
    model = detected.model
    model.diffusion_model = RemoteDenoiser(detected, shape, source)
    # The engine splits batches itself, so ComfyUI may hand over conditional and unconditional parts in one call.
    model.memory_required = lambda *args, **kwargs: 0
    # What is left of the model (the table of sigmas, the noise of unCLIP) stays on the device for good. Where ComfyUI left it on the CPU until the first
    # run, that run's sigmas were computed there, and its picture differed by 1e-4 from the same prompt's later ones.
    device = comfy.model_management.get_torch_device()
    model.to(device)
    # size=1: ComfyUI would otherwise count the meta tensors as memory to reserve.
    patcher = EnginePatcher(model, load_device=device, offload_device=device, size=1)
    # ComfyUI's note of what a dynamic model holds in main memory: nothing.
    model.dynamic_pins = {device: {"active": False, "current_prompt": False}}
    # How ComfyUI makes a copy for another GPU.
    patcher.cached_patcher_init = (load_ordinary, (source.path, source.folder))
    patcher.set_attachments(ATTACHMENT, source)
    install(patcher)
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, ATTACHMENT, _prepare)
    return patcher


def engine_model(source: Source) -> Any:
    """A weightless MODEL, or the ordinary one, whose runs say why they are not on an engine. Raises what ComfyUI's own loader says of a file that neither can use."""
    try:
        return weightless_model(source)
    except (NotACheckpoint, HeaderError, OSError) as error:
        patcher = source.load_local().clone()
        patcher.set_attachments(ATTACHMENT, source)
        install_local(patcher, source, str(error))
        return patcher
