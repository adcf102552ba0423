"""A ModelPatcher's LoRA patches in the plugin's own words, and what a file would give on the same model."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.utils
import comfy.weight_adapter
import torch

from ...stack import Part, Patch, Target
from ..denoising import NotServed
from ..denoising.tensors import Digests

MODEL_PREFIX = "diffusion_model."

# Order of an adapter's `weights` in ComfyUI, named as the adapter file names them.
PARTS: dict[str, tuple[str, ...]] = {
    "lora": ("lora_up.weight", "lora_down.weight", "alpha", "lora_mid.weight", "dora_scale", "reshape_weight"),
    "loha": ("hada_w1_a", "hada_w1_b", "alpha", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "dora_scale"),
    "lokr": ("lokr_w1", "lokr_w2", "alpha", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "dora_scale"),
    "glora": ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "alpha", "dora_scale"),
    "oft": ("oft_blocks", "rescale", "alpha", "dora_scale"),
    "boft": ("oft_blocks", "rescale", "alpha", "dora_scale"),
}
PLAIN = {"diff": "diff", "set": "set_weight"}

# As in ModelPatcher.patches: parameter key to (strength, adapter, model strength, offset, function), in order of application.
ComfyPatches = dict[str, list[tuple]]


def read_patches(patches: ComfyPatches, digests: Digests) -> dict[str, list[Patch]]:
    """`patches` as in ModelPatcher.patches. Raises NotServed for what is no LoRA of the diffusion model."""
    out: dict[str, list[Patch]] = {}
    for key, entries in patches.items():
        for strength, adapter, model_strength, offset, function in entries:
            if model_strength != 1.0:
                raise NotServed("a model merge (a patch that scales the model's own weight)", "RUN_PATCH_UNKNOWN")
            patch = _patch(target_of(key, offset, function), adapter, float(strength), digests)
            out.setdefault(patch.target.parameter, []).append(patch)
    return out


def file_patches(path: str, key_map: Mapping[str, str], parameters: Container[str], digests: Digests) -> list[Patch]:
    """What ComfyUI's own loader makes of an adapter file on a model with this key map, at strength 1."""
    tensors = comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(path, safe_load=True))
    return loaded_patches(comfy.lora.load_lora(tensors, dict(key_map), log_missing=False), parameters, digests)


def loaded_patches(loaded: Mapping[Any, Any], parameters: Container[str], digests: Digests) -> list[Patch]:
    """The patches in what ComfyUI's `load_lora` gave. Targets that the model does not have are left out, as its `add_patches` does."""
    out = []
    for key, adapter in loaded.items():
        name, offset, function = placed(key)
        if name.startswith(MODEL_PREFIX) and name.removeprefix(MODEL_PREFIX) in parameters:
            out.append(_patch(target_of(name, offset, function), adapter, 1.0, digests))
    return out


def placed(key: Any) -> tuple[str, Any, Any]:
    """Parameter, slice and function of a key as ComfyUI's loader gives it: a name, or a tuple of up to three."""
    name, offset, function = (key, None, None) if isinstance(key, str) else (*key, None)[:3]
    return str(name), offset, function


def target_of(key: str, offset: tuple | None, function: object) -> Target:
    if not key.startswith(MODEL_PREFIX):
        raise NotServed(f"a patch outside of the diffusion model ({key})", "RUN_PATCH_UNKNOWN")
    if offset is not None and offset[0] != 0:
        raise NotServed(f"a patch on columns of {key}", "RUN_PATCH_UNKNOWN")
    rows = None if offset is None else (int(offset[1]), int(offset[2]))
    return Target(key.removeprefix(MODEL_PREFIX), rows, function is not None)


def _patch(target: Target, adapter: Any, strength: float, digests: Digests) -> Patch:
    kind, parts = parts_of(target.parameter, adapter)
    return Patch(target, kind, tuple((name, _part(value, digests)) for name, value in parts), strength)


def parts_of(key: str, adapter: Any) -> tuple[str, list[tuple[str, Any]]]:
    if isinstance(adapter, comfy.weight_adapter.WeightAdapterBase):
        names = PARTS.get(adapter.name)
        if names is None or len(adapter.weights) > len(names):
            raise NotServed(f"an adapter of kind {adapter.name!r}", "RUN_ADAPTER_KIND")
        return adapter.name, list(zip(names, adapter.weights, strict=False))
    if isinstance(adapter, tuple) and len(adapter) == 2 and adapter[0] in PLAIN and len(adapter[1]) == 1:
        return adapter[0], [(PLAIN[adapter[0]], adapter[1][0])]
    raise NotServed(f"a patch on {key} that no adapter file holds", "RUN_PATCH_UNKNOWN")


def _part(value: Any, digests: Digests) -> Part:
    if isinstance(value, torch.Tensor):
        return digests.ref(value)
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(number, int) for number in value):
        return tuple(value)
    raise NotServed(f"an adapter part of type {type(value).__name__}", "RUN_PATCH_UNKNOWN")
