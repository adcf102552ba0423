"""The diffusion model of a weightless MODEL: real parameter names without weights, and a forward that asks the run for the answer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import comfy.patcher_extension
import torch

from ..denoising import Call, CallShape, NotServed, read_call, read_words
from .checkpoint import Detected, read_part
from .modules import Outline, changed, outline
from .ordinary import whole
from .patches import MODEL_PREFIX
from .source import Source

Answer = Callable[[Call], torch.Tensor]

# Layers whose shape ComfyUI's own conditioning reads, and nothing else of them.
READ_FOR_THEIR_SHAPE = ("img_in", "patch_embedding")
# Small parts whose weights a ControlNet copies before the first step (Stability's of SD3.5).
LENT = frozenset({"x_embedder", "y_embedder"})
# What ComfyUI's memory management asks of every module and only single layers have. The answer is known without making the ordinary structure, which
# takes a second for SDXL.
OF_LAYERS_ONLY = frozenset({
    "comfy_cast_weights", "prev_comfy_cast_weights", "comfy_patched_weights", "weight_function", "bias_function", "weight_comfy_model_dtype",
    "bias_comfy_model_dtype", "_v",
})  # fmt: skip
_ABSENT = object()


class RemoteDenoiser(torch.nn.Module):
    """LoRA loaders see every parameter in `state_dict()` and keep their patches; memory management sees nothing to load.

    `answer` and `patched` are set for the time of a run. Third-party wrappers around the diffusion model run here, as in ComfyUI's own models. Who asks for a part
    of the model (a block, a layer) gets that of the ordinary MODEL, loaded then, or during a run has it continue there.
    """

    def __init__(self, detected: Detected, shape: CallShape, source: Source) -> None:
        super().__init__()
        self.dtype = detected.model_config.unet_config["dtype"]
        self.answer: Answer | None = None
        #: Keys of this run's patches.
        self.patched: frozenset[str] = frozenset()
        # Plain attributes: registered parameters would be walked and loaded.
        hidden = self.__dict__
        hidden["meta_parameters"], hidden["call_shape"], hidden["source"] = detected.parameters, shape, source
        # Not `detected` itself: it holds the model that this is a part of, and the circle would keep every model of the past until Python looks for circles
        # (ComfyUI takes that for a leak and has it look, 0.4 s before the first step).
        hidden["structure"], hidden["handed_out"] = detected.structure, None
        hidden["configuration"] = detected.model_config.unet_config
        for name in READ_FOR_THEIR_SHAPE:
            layer = _layer(detected.parameters, name)
            inner = _layer(detected.parameters, f"{name}.proj")
            if layer is not None or inner is not None:
                hidden[name] = SimpleNamespace(**vars(layer or SimpleNamespace()), proj=inner)

    def __getattr__(self, name: str) -> Any:
        """For names that the ordinary model of this class has; anything else is missing here as there."""
        hidden = self.__dict__
        if name.startswith("__") or name in OF_LAYERS_ONLY or "structure" not in hidden:
            return super().__getattr__(name)
        words = hidden["call_shape"].words
        if words is not None and name == words.method and self.answer is not None:
            answer = self.answer
            return lambda *args, **kwargs: answer(read_words(words, args, kwargs, hidden["configuration"]))
        value = getattr(hidden["structure"](), name, _ABSENT)
        if value is _ABSENT:
            return super().__getattr__(name)
        if not callable(value) and not isinstance(value, torch.Tensor):
            return value
        if hidden["answer"] is not None:
            if name in LENT and (part := self._lent(name)) is not None:
                return part
            raise NotServed(f"a node that reaches into the model ({name})", "RUN_INSIDE_MODEL")
        model = whole(hidden["source"]).model.diffusion_model
        if hidden["handed_out"] is None:
            hidden["handed_out"] = outline(model)
        return getattr(model, name)

    def _lent(self, name: str) -> SimpleNamespace | None:
        """A part whose weights can be read; None where the file has them in another form, or a LoRA changes them."""
        if any(key.startswith(f"{MODEL_PREFIX}{name}.") for key in self.patched):
            return None
        weights = read_part(self.source.path, name)
        return None if weights is None else SimpleNamespace(state_dict=lambda: weights)

    def refuse_changes(self) -> None:
        """Raises NotServed when somebody changed a part that was handed out: the ordinary MODEL has the change, an engine has not."""
        handed_out: Outline | None = self.__dict__["handed_out"]
        if handed_out is None:
            return
        local = self.source.load_local()
        patched = [key.removeprefix(MODEL_PREFIX) for key in local.object_patches_backup if key.startswith(MODEL_PREFIX)]
        where = changed(handed_out, local.model.diffusion_model, patched)
        if where:
            raise NotServed(f"a node that changed the model itself ({where})", "RUN_INSIDE_MODEL")

    def state_dict(self, *args, destination=None, prefix: str = "", keep_vars: bool = False):
        if destination is None and self.answer is not None:
            # There are shapes here and no weights, and a control LoRA would compute with them.
            raise NotServed("a node that reads the model's weights while it runs (a control LoRA)", "RUN_INSIDE_MODEL")
        destination = {} if destination is None else destination
        for name, value in self.meta_parameters.items():
            destination[prefix + name] = value
        return destination

    # TorchCompileModel would trace the way to the sidecar; there is nothing to compile.
    @torch.compiler.disable
    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, **kwargs) -> torch.Tensor:
        # What stands behind them comes by name, as the class's own forward passes it on.
        names = self.call_shape.positional
        names = names[: names.index("transformer_options") + 1]
        args = [x, timesteps, *(kwargs.pop(name, None) for name in names[2:])]
        if args[-1] is None:
            args[-1] = {}
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, args[-1])
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(*args, **kwargs)

    def _forward(self, *args, **kwargs) -> torch.Tensor:
        if self.answer is None:
            raise RuntimeError(
                "Refit: this node calls the model outside of a sampler, which an engine MODEL cannot do. Use Load Checkpoint for it; "
                "Accelerate Model (Refit) behind it brings the engine back."
            )
        return self.answer(read_call(self.call_shape, args, kwargs, self.configuration))


def _layer(parameters: dict[str, torch.Tensor], name: str) -> SimpleNamespace | None:
    weight = parameters.get(f"{name}.weight")
    return None if weight is None else SimpleNamespace(weight=weight)


def denoiser_of(patcher: Any) -> RemoteDenoiser | None:
    """Also while an object patch of another node (a compiled model) stands in its place. None: ComfyUI has made a copy with weights of its own."""
    found = patcher.model.diffusion_model
    if not isinstance(found, RemoteDenoiser):
        found = patcher.object_patches_backup.get("diffusion_model")
    return found if isinstance(found, RemoteDenoiser) else None
