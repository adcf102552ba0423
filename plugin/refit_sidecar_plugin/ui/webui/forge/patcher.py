"""Forge's UNet patcher in the plugin's own words. Forge keeps LoRAs by file (`lora_patches`), reForge and Forge Neo only by parameter (`patches`)."""

from __future__ import annotations

import ast
import importlib
import uuid
from collections.abc import Iterable
from typing import Any

import torch

from ...denoising import CallShape, NotServed, call_shape
from ..desired import Applied
from .loading import refuse_storage

# Adapter parts that an engine applies and Forge's loader does not know.
NEWER_PARTS = (".oft_blocks", ".reshape_weight")


def shape_of(unet: Any) -> CallShape:
    """Raises NotServed for a model class that no engine speaks."""
    model = unet.model
    for name in (type(model).__name__, type(model.diffusion_model).__name__):
        shape = call_shape("forge", name)
        if shape is not None:
            return shape
    raise NotServed(f"models of class {type(model.diffusion_model).__name__}", "RUN_MODEL_CLASS")


def _keeps_files(unet: Any) -> bool:
    """Some versions of Forge Neo have an empty `lora_patches` beside the `patches` that act."""
    return not hasattr(unet, "patches") or bool(getattr(unet, "lora_patches", None))


def _patches_name(unet: Any) -> str:
    return "lora_patches" if _keeps_files(unet) else "patches"


def stack_of(unet: Any, sd_model: Any) -> tuple[Applied, ...]:
    """The LoRA files on this patcher, in order of application. Raises NotServed when they do not explain it exactly."""
    refuse_storage(unet)
    applied = _by_file(unet) if _keeps_files(unet) else _by_hash(unet, sd_model)
    live = _live_entries(unet)
    expected: dict[str, list[tuple]] = {}
    # Forks leave out a file of no strength, Forge keeps it; it changes nothing.
    for one in (one for one in applied if one.strength):
        for parameter, entry in _file_entries(unet, one):
            expected.setdefault(parameter, []).append(entry)
    if live.keys() != expected.keys() or not all(_same(live[parameter], expected[parameter]) for parameter in live):
        raise NotServed(
            "something changed the LoRA patches after they were loaded (block weights, or patches of another extension)",
            "RUN_WEIGHTS_CHANGE",
        )
    return applied


def without_adapters(unet: Any) -> Any:
    """A clone whose weights need no merging. What `unet` holds stays as it is."""
    clone = unet.clone()
    setattr(clone, _patches_name(unet), {})
    if hasattr(clone, "patches_uuid"):
        # Forks take weights for merged when this is equal, and would never merge the adapters of `unet` after this clone was loaded.
        clone.patches_uuid = uuid.uuid4()
    return clone


def with_adapters_of(unet: Any, own: Any) -> Any:
    """A clone of `unet`, itself a later clone of `without_adapters(own)`, that loads what `own` loads, and where. Forge loads nothing twice into one patcher."""
    clone = unet.clone()
    name = _patches_name(own)
    setattr(clone, name, getattr(own, name))
    if hasattr(own, "patches_uuid"):
        clone.patches_uuid = own.patches_uuid
    clone.load_device = own.load_device
    clone.model_options.pop("memory_peak_estimation_modifier", None)
    return clone


def _by_file(unet: Any) -> tuple[Applied, ...]:
    out = []
    for filename, strength, strength_model, online in unet.lora_patches:
        if online:
            raise NotServed("LoRAs in online mode", "RUN_SETTING")
        if strength_model != 1.0:
            raise NotServed("a patch that scales the model's own weights", "RUN_PATCH_UNKNOWN")
        out.append(Applied(filename, float(strength)))
    return tuple(out)


def _by_hash(unet: Any, sd_model: Any) -> tuple[Applied, ...]:
    """Forks note what they loaded as text: a list of [file, UNet strength, text encoder strength]; Forge Neo adds whether it is applied at every call."""
    if getattr(unet, "weight_wrapper_patches", None):
        raise NotServed("LoRAs in online mode", "RUN_SETTING")
    try:
        targets = ast.literal_eval(getattr(sd_model, "current_lora_hash", "[]") or "[]")
        return tuple(Applied(str(target[0]), float(target[1])) for target in targets) if unet.patches else ()
    except (ValueError, SyntaxError, TypeError, IndexError) as error:
        raise NotServed("this UI does not tell which LoRA files it loaded", "RUN_PATCH_UNKNOWN") from error


def _live_entries(unet: Any) -> dict[str, list[tuple]]:
    """Parameter to (strength, adapter, model strength, offset, function) of the patches that act, in order of application."""
    out: dict[str, list[tuple]] = {}
    for patches in unet.lora_patches.values() if _keeps_files(unet) else (unet.patches,):
        for parameter, entries in patches.items():
            if acting := [tuple(entry) for entry in entries if entry[0] or entry[2] != 1.0]:
                out.setdefault(parameter, []).extend(acting)
    return out


def _file_entries(unet: Any, applied: Applied) -> Iterable[tuple[str, tuple]]:
    """What the UI's own loader makes of the file on this model, from the tensors that it keeps in memory."""
    networks = importlib.import_module("networks")
    loader = _loader()
    loaded = loader.load_lora(networks.load_lora_state_dict(applied.path), loader.model_lora_keys_unet(unet.model, {}))
    patches, left = loaded if isinstance(loaded, tuple) else (loaded, {})
    if any(key.endswith(NEWER_PARTS) for key in left):
        raise NotServed(f"{applied.name} is of a kind that this UI leaves out in part", "RUN_ADAPTER_KIND")
    parameters = {name for name, _ in unet.model.named_parameters()}
    for key, adapter in patches.items():
        parameter, offset, function = (key, None, None) if isinstance(key, str) else (*key, None)[:3]
        if getattr(adapter, "name", "") in ("oft", "boft") and adapter.weights[2] is None:
            # In reForge its arithmetic ends in an error, and the picture is made without it.
            raise NotServed(f"{applied.name} is an OFT or BOFT without alpha, which this UI does not apply", "RUN_ADAPTER_KIND")
        if parameter in parameters:
            yield parameter, (applied.strength, adapter, 1.0, offset, function)  # pyright: ignore[reportReturnType]  an unknown tuple


def _loader() -> Any:
    for name in ("backend.patcher.lora", "ldm_patched.modules.lora"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise NotServed("this UI has no LoRA loader that is known", "RUN_PATCH_UNKNOWN")


def _same(live: list[tuple], expected: list[tuple]) -> bool:
    return len(live) == len(expected) and all(
        one[0] == other[0] and one[2] == other[2] and one[3] == other[3] and _same_values(one[1], other[1])
        for one, other in zip(live, expected, strict=True)
    )


def _same_values(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.data_ptr() == other.data_ptr() or torch.equal(one.to(other), other)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(_same_values(a, b) for a, b in zip(one, other, strict=True))
    if hasattr(one, "weights") and type(one) is type(other):
        return _same_values(one.weights, other.weights)  # pyright: ignore[reportAttributeAccessIssue]  hasattr was asked
    return bool(one == other)
