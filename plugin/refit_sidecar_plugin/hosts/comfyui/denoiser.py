"""The diffusion model of a weightless MODEL: real parameter names without weights, and a forward that asks the run for the answer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import comfy.patcher_extension
import torch

from ..denoising import Call, CallShape, NotServed, read_call

Answer = Callable[[Call], torch.Tensor]


class RemoteDenoiser(torch.nn.Module):
    """LoRA loaders see every parameter in `state_dict()` and keep their patches; memory management sees nothing to load.

    `answer` is set for the time of a run. Third-party wrappers around the diffusion model run here, as in ComfyUI's own models.
    """

    def __init__(self, parameters: dict[str, torch.Tensor], dtype: torch.dtype, shape: CallShape) -> None:
        super().__init__()
        self.dtype = dtype
        self.answer: Answer | None = None
        # Plain attributes: registered parameters would be walked and loaded.
        self.__dict__["meta_parameters"] = parameters
        self.__dict__["call_shape"] = shape
        patch = parameters.get("patch_embedding.weight")
        if patch is not None:
            # WAN's conditioning reads this shape without a guard.
            self.__dict__["patch_embedding"] = SimpleNamespace(weight=patch)

    def state_dict(self, *args, destination=None, prefix: str = "", keep_vars: bool = False):
        destination = {} if destination is None else destination
        for name, value in self.meta_parameters.items():
            destination[prefix + name] = value
        return destination

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, **kwargs) -> torch.Tensor:
        names = self.call_shape.positional
        args = [x, timesteps, *(kwargs.pop(name, None) for name in names[2:])]
        if args[-1] is None:
            args[-1] = {}
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, args[-1])
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(*args, **kwargs)

    def _forward(self, *args, **kwargs) -> torch.Tensor:
        if self.answer is None:
            raise RuntimeError("Refit: this node calls the model outside of a sampler, which an engine MODEL cannot do. Use Load Checkpoint for it.")
        return self.answer(read_call(self.call_shape, args, kwargs))


def refuse_unknown(shape: CallShape | None, class_name: str) -> CallShape:
    if shape is None:
        raise NotServed(f"models of class {class_name}")
    return shape
