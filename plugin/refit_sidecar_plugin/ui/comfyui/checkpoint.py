"""What a checkpoint is, from its header alone: ComfyUI's own detection runs on tensors that have shapes but no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import comfy.model_detection
import comfy.model_management
import comfy.utils
import torch

from ...files import Entry, Header, read_header, read_tensor
from ..denoising.tensors import from_bytes, torch_dtype

# ComfyUI's detection looks into a few small tensors (v-prediction marks, EDM settings, one norm bias); those are read for real.
READ_FOR_REAL_BYTES = 64 * 1024


class NotACheckpoint(ValueError):
    """ComfyUI does not recognise the file. The text says what to do."""


class HeaderTensors(dict):
    """A state dictionary whose tensors lie on the meta device; small one-dimensional ones are read when they are looked at."""

    def __init__(self, path: str, header: Header, prefix: str = "") -> None:
        self._path, self._small = path, {}
        super().__init__()
        for name, entry in header.entries.items():
            if name.startswith(prefix) and (dtype := torch_dtype(entry.dtype)) is not None:
                key = name[len(prefix) :]
                self[key] = torch.empty(entry.shape, dtype=dtype, device="meta")
                if len(entry.shape) <= 1 and entry.end - entry.begin <= READ_FOR_REAL_BYTES:
                    self._small[key] = (entry, dtype)

    def __getitem__(self, key: str) -> torch.Tensor:
        self._make_real(key)
        return super().__getitem__(key)

    def get(self, key: str, default: torch.Tensor | None = None) -> torch.Tensor | None:
        self._make_real(key)
        return super().get(key, default)

    def pop(self, key: str, *default: torch.Tensor) -> torch.Tensor:
        self._make_real(key)
        return super().pop(key, *default)

    def _make_real(self, key: str) -> None:
        entry, dtype = self._small.pop(key, (None, None))
        if isinstance(entry, Entry) and dtype is not None and key in self:
            self[key] = from_bytes(read_tensor(self._path, entry), dtype, entry.shape)

    def shapes(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor without reading any."""
        return iter(super().items())


@dataclass(frozen=True)
class Detected:
    """A recognised checkpoint. `parameters` are meta tensors under ComfyUI's own parameter names (no prefix); `model` has no weights.

    `structure` gives the diffusion model of the class that ComfyUI would make, without values; made once, when it is asked for.
    """

    model_config: Any
    model: torch.nn.Module
    parameters: dict[str, torch.Tensor]
    structure: Callable[[], torch.nn.Module | None]


def detect(path: str, dtype: torch.dtype | None = None) -> Detected:
    """Builds the weightless model of a checkpoint or diffusion-model file. `dtype`: the engine's, else what ComfyUI would choose.

    Raises NotACheckpoint, HeaderError or OSError.
    """
    header = read_header(path)
    tensors = HeaderTensors(path, header)
    prefix = comfy.model_detection.unet_prefix_from_state_dict(tensors)
    if not any(name.startswith(prefix) for name in tensors):
        prefix = ""
    config = comfy.model_detection.model_config_from_unet(tensors, prefix, metadata=header.metadata) if prefix else None
    if config is None:
        prefix, tensors = "", _diffusion_model(path, header, prefix)
        config = comfy.model_detection.model_config_from_unet(tensors, "", metadata=header.metadata)
    if config is None:
        config, tensors = _from_diffusers(tensors)
    names = {name[len(prefix) :]: tensor for name, tensor in _shapes(tensors) if name.startswith(prefix)}
    names = config.process_unet_state_dict(dict(names))
    _choose_dtype(config, names, dtype)
    config.unet_config["disable_unet_model_creation"] = True
    model = config.get_model(tensors, prefix)
    return Detected(config, model, {name: tensor.to("meta") for name, tensor in names.items()}, cache(lambda: _structure(config)))


def read_part(path: str, name: str) -> dict[str, torch.Tensor] | None:
    """Weights of a part of the diffusion model by their names in it; None where the file calls the part otherwise, or stores it in other numbers than floats."""
    header = read_header(path)
    prefix = comfy.model_detection.unet_prefix_from_state_dict(HeaderTensors(path, header))
    for start in (f"{prefix}{name}.", f"{name}."):
        entries = {key[len(start) :]: entry for key, entry in header.entries.items() if key.startswith(start)}
        if entries and all(entry.dtype in ("F32", "F16", "BF16") for entry in entries.values()):
            types = {key: torch_dtype(entry.dtype) for key, entry in entries.items()}
            return {key: from_bytes(read_tensor(path, entry), types[key] or torch.float32, entry.shape) for key, entry in entries.items()}
    return None


def _structure(config: Any) -> torch.nn.Module | None:
    # Not copy.copy: this class answers to every name, copying's own ones included.
    bare = type(config).__new__(type(config))  # pyright: ignore[reportCallIssue]  the class is ComfyUI's
    vars(bare).update(vars(config))
    bare.unet_config = {name: value for name, value in config.unet_config.items() if name != "disable_unet_model_creation"}
    try:
        return bare.get_model({}, "", device=torch.device("meta")).diffusion_model
    except Exception:  # noqa: BLE001 - classes that read weights while they are made have none here; then nothing of the model can be handed out by name
        return None


def _shapes(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    return tensors.shapes() if isinstance(tensors, HeaderTensors) else iter(tensors.items())


def _diffusion_model(path: str, header: Header, prefix: str) -> HeaderTensors:
    """A file that holds only the diffusion model, with or without the prefix."""
    prefixed = HeaderTensors(path, header, prefix) if prefix else None
    return prefixed if prefixed else HeaderTensors(path, header)


def _from_diffusers(tensors: HeaderTensors) -> tuple[Any, dict[str, torch.Tensor]]:
    converted = comfy.model_detection.convert_diffusers_mmdit(tensors, "")
    if converted is not None:
        config = comfy.model_detection.model_config_from_unet(converted, "")
        if config is not None:
            return config, converted
    config = comfy.model_detection.model_config_from_diffusers_unet(tensors)
    if config is None:
        raise NotACheckpoint("ComfyUI does not recognise this file as a checkpoint or a diffusion model. Choose another file.")
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    return config, {names[key]: tensors[key] for key in names if key in tensors}


def _choose_dtype(config: Any, parameters: dict[str, torch.Tensor], dtype: torch.dtype | None) -> None:
    """Follows ComfyUI's own choice, so that the tensors of a call have the dtype that its model would get."""
    if dtype is None:
        weight_dtype = None if _quantised(config) else comfy.utils.weight_dtype(parameters)
        elements = sum(tensor.nelement() for tensor in parameters.values())
        dtype = comfy.model_management.unet_dtype(
            model_params=elements, supported_dtypes=list(config.supported_inference_dtypes), weight_dtype=weight_dtype
        )
        cast = comfy.model_management.unet_manual_cast(dtype, comfy.model_management.get_torch_device(), config.supported_inference_dtypes)
        dtype = cast if cast is not None else dtype
    config.set_inference_dtype(dtype, None)


def _quantised(config: Any) -> bool:
    """ComfyUI 0.4 and later say it in `quant_config`, earlier ones in `scaled_fp8`; asking a version for the other's name makes it warn."""
    name = "quant_config" if "quant_config" in dir(type(config)) else "scaled_fp8"
    return getattr(config, name, None) is not None
