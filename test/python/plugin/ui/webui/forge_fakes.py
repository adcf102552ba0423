"""Forge's model and patcher as small as can be, with the members that the record names."""

from __future__ import annotations

import copy
import sys
import uuid
from types import SimpleNamespace
from typing import Any

import torch

WIDTH = 4


class IntegratedUNet2DConditionModel(torch.nn.Module):
    """Forge's own path: ten times the sample, so that nobody mistakes it for the engine's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
        return x * 10


class KModel(torch.nn.Module):
    """Arithmetic around the model in round numbers: input sigma * x, timestep 100 * sigma, result x - output."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model = IntegratedUNet2DConditionModel()
        self.storage_dtype = torch.float16

    def apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        scaled = x * t.view(-1, 1, 1, 1)
        if c_concat is not None:
            scaled = torch.cat([scaled, c_concat], dim=1)
        out = self.diffusion_model(
            scaled, t * 100, context=c_crossattn, control=control, transformer_options=transformer_options or {}, **kwargs
        )
        return x - out[:, : x.shape[1]]


class Patcher:
    def __init__(self, model: KModel) -> None:
        self.model, self.lora_patches, self.object_patches = model, {}, {}
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.load_device, self.offload_device = torch.device("cuda"), torch.device("cpu")
        self.controlnet_linked_list = None

    def clone(self) -> Patcher:
        made = Patcher(self.model)
        made.lora_patches, made.object_patches = self.lora_patches.copy(), self.object_patches.copy()
        made.model_options = copy.deepcopy(self.model_options)
        made.load_device, made.controlnet_linked_list = self.load_device, self.controlnet_linked_list
        return made

    def memory_required(self, shape: list[int]) -> int:
        return 1000 * shape[0]

    def set_model_unet_function_wrapper(self, wrapper: Any) -> None:
        self.model_options["model_function_wrapper"] = wrapper

    def set_memory_peak_estimation_modifier(self, modifier: Any) -> None:
        self.model_options["memory_peak_estimation_modifier"] = modifier


class OldPatcher(Patcher):
    """As forks keep it: patches by parameter, without the files' names, and a mark of what is merged."""

    def __init__(self, model: KModel) -> None:
        super().__init__(model)
        del self.lora_patches
        self.patches: dict[str, list] = {}
        self.patches_uuid = uuid.uuid4()

    def clone(self) -> OldPatcher:
        made = OldPatcher(self.model)
        made.patches = {key: list(entries) for key, entries in self.patches.items()}
        made.patches_uuid = self.patches_uuid
        made.model_options = copy.deepcopy(self.model_options)
        made.load_device = self.load_device
        return made


class NeoPatcher:
    """Forge Neo's of 2026, from its recorded facts: patches by parameter, those of online mode beside them, and no hook for the memory estimate."""

    def __init__(self, model: KModel) -> None:
        self.model, self.object_patches, self.weight_wrapper_patches = model, {}, {}
        self.patches: dict[str, list] = {}
        self.patches_uuid = uuid.uuid4()
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.load_device, self.offload_device = torch.device("cuda"), torch.device("cpu")
        self.controlnet_linked_list = None

    def clone(self) -> NeoPatcher:
        made = type(self)(self.model)
        made.patches = {key: list(entries) for key, entries in self.patches.items()}
        made.patches_uuid = self.patches_uuid
        made.object_patches, made.weight_wrapper_patches = self.object_patches.copy(), self.weight_wrapper_patches.copy()
        made.model_options = copy.deepcopy(self.model_options)
        made.load_device, made.controlnet_linked_list = self.load_device, self.controlnet_linked_list
        return made

    def memory_required(self, input_shape: list[int]) -> int:
        return 1000 * input_shape[0]

    def set_model_unet_function_wrapper(self, unet_wrapper_function: Any) -> None:
        self.model_options["model_function_wrapper"] = unet_wrapper_function


class EarlyNeoPatcher(NeoPatcher):
    """Neo's of the first months of 2026 still has the old field, empty."""

    def __init__(self, model: KModel) -> None:
        super().__init__(model)
        self.lora_patches: dict[tuple, dict] = {}


PARAMETER = "diffusion_model.layer.weight"


class Loader:
    """Forge's LoRA loader: each file patches one parameter with tensors of its own, kept in memory."""

    def __init__(self) -> None:
        self._tensors: dict[str, tuple] = {}
        sys.modules["networks"].load_lora_state_dict = lambda path: path
        sys.modules["backend.patcher.lora"].model_lora_keys_unet = lambda model, keys: keys
        sys.modules["backend.patcher.lora"].load_lora = lambda path, keys: ({PARAMETER: self.adapter(path)}, {})

    def adapter(self, path: str) -> tuple:
        return self._tensors.setdefault(path, ("lora", (torch.rand(WIDTH, 2), torch.rand(2, WIDTH), 1.0, None, None)))

    def apply(self, unet: Any, path: str, strength: float, online: bool = False) -> None:
        entry = [strength, self.adapter(path), 1.0, None, None]
        if isinstance(unet, NeoPatcher) and online:
            unet.weight_wrapper_patches.setdefault(PARAMETER, []).append(SimpleNamespace(name=path, key=PARAMETER, patch=[entry]))
        elif isinstance(unet, (OldPatcher, NeoPatcher)):
            unet.patches.setdefault(PARAMETER, []).append(tuple(entry))
        else:
            unet.lora_patches[(path, strength, 1.0, online)] = {PARAMETER: [entry]}


class Memory:
    """backend.memory_management: remembers what was asked of it."""

    def __init__(self) -> None:
        self.loaded: list[tuple[Any, float]] = []
        self.freed: list[float] = []
        manager = sys.modules["backend.memory_management"]
        manager.load_models_gpu = lambda models, memory_required=0: self.loaded.append((models[0], memory_required))
        manager.free_memory = lambda wanted, device: self.freed.append(wanted)
        manager.get_free_memory = lambda device: 1 << 20 if not self.freed else 3 << 20
        manager.get_torch_device = lambda: torch.device("cpu")
        manager.soft_empty_cache = lambda: None


def objects(unet: Any) -> SimpleNamespace:
    return SimpleNamespace(unet=unet)
