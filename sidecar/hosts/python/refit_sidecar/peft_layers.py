"""PEFT's layers as terms: what each changes in the weight of its base layer. In: PEFT layers of a module. Out: low-rank factors where the change is a
plain product, else the changed values. Never: a change of a layer.

PEFT is only looked at when something has imported it: a module without adapters needs none.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .counted import original_class


def is_tuner(module: nn.Module) -> bool:
    """Whether PEFT has put adapters around a layer here."""
    tuners = sys.modules.get("peft.tuners.tuners_utils")
    return tuners is not None and isinstance(module, tuners.BaseTunerLayer)


def is_wrapper(module: nn.Module) -> bool:
    """Whether PEFT keeps a trained copy of a whole module here (`modules_to_save`)."""
    other = sys.modules.get("peft.utils.other")
    return other is not None and isinstance(module, getattr(other, "AuxiliaryTrainingWrapper", ()))


@dataclass(frozen=True)
class LowRank:
    """scale * up @ down on a weight [rows, cols...]. `up`: [rows, rank, ...], `down`: [rank, cols...]."""

    adapter: str
    up: Tensor
    down: Tensor
    scale: float


def has_adapter(layer: Any, name: str) -> bool:
    """Whether a layer has anything of this adapter."""
    return any(name in getattr(layer, key, ()) for key in layer.adapter_layer_names)


def adapter_names(active: Any) -> list[str]:
    """PEFT's `_active_adapter`: one name or several."""
    return [active] if isinstance(active, str) else list(active)


def factors_of(layer: Any, name: str) -> list[Tensor]:
    """Tensors of one adapter in a layer."""
    tensors: list[Tensor] = []
    for key in layer.adapter_layer_names:
        held = layer._modules.get(key)
        if held is None:
            continue
        inner = held._modules.get(name)
        if inner is not None:
            tensors += inner.parameters()
        elif held._parameters.get(name) is not None:
            tensors.append(held._parameters[name])
    return tensors


def settle(layer: Any) -> None:
    """Does what PEFT's next call would do: a merged layer whose adapters are off is unmerged."""
    if layer.disable_adapters and layer.merged:
        layer.unmerge()


def low_rank(layer: Any, name: str) -> LowRank | None:
    """The change of one adapter as a plain product; None when it is anything else (DoRA, LoHa, LoKr, OFT, a bias, an embedding, groups)."""
    lora = sys.modules.get("peft.tuners.lora.layer")
    if lora is None or original_class(layer) not in _plain_classes(lora) or name not in layer.lora_A:
        return None
    base = layer.get_base_layer()
    up, down = layer.lora_B[name], layer.lora_A[name]
    scale = layer.scaling[name]
    if (
        name in layer.lora_variant
        or layer.lora_bias.get(name)
        or getattr(layer, "fan_in_fan_out", False)
        or not isinstance(scale, (int, float))
    ):
        return None
    if getattr(base, "groups", 1) != 1 or up.weight.dtype != down.weight.dtype or any(each != 1 for each in up.weight.shape[2:]):
        return None
    return LowRank(name, up.weight, down.weight, float(scale))


def _plain_classes(lora: Any) -> tuple[type, ...]:
    return tuple(getattr(lora, name) for name in ("Linear", "Conv1d", "Conv2d", "Conv3d") if hasattr(lora, name))


@torch.no_grad()
def merged_values(layer: Any, names: tuple[str, ...], device: torch.device) -> dict[str, Tensor]:
    """f32 values of the base layer's parameters with these adapters in them, by PEFT's own merge on a copy. Raises what PEFT raises."""
    base = copy.copy(layer.get_base_layer())
    kept = {key: value for key, value in base._parameters.items() if value is not None}
    base._parameters = {
        **base._parameters,
        **{key: nn.Parameter(value.detach().to(device, torch.float32, copy=True), False) for key, value in kept.items()},
    }
    shadow = copy.copy(layer)
    shadow._modules = {**layer._modules, "base_layer": base}
    shadow.__dict__["merged_adapters"] = []
    shadow.__dict__["_caches"] = {}
    shadow.__dict__["_disable_adapters"] = False
    shadow.merge(adapter_names=list(names))
    return {key: base._parameters[key].detach() for key in kept}
