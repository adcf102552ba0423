"""Adapters on, off and at other strengths, for all layers at once. In: a module whose PEFT layers are plain LoRA. Out: the layers as diffusers' and PEFT's own
calls leave them: strengths, switches, and which factors want gradients. Never: another result than theirs; what is not plain goes through theirs.

diffusers walks over every module and PEFT over every factor of every adapter, each through nn.Module's lookups: 100 ms and more for SDXL with five LoRAs.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import chain, compress
from operator import attrgetter, is_not
from typing import Any, Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from .counted import Changes
from .peft_layers import factors_of, is_tuner

_wants_gradients = attrgetter("requires_grad")


class Switchboard:
    """The PEFT layers of one module. Good as long as they are the layers that it has."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = list(layers)
        self._held = [layer.__dict__ for layer in layers]
        names = dict.fromkeys(key for layer in layers for part in layer.adapter_layer_names for key in _keys(getattr(layer, part, None)))
        self._factors: dict[str, list[Tensor]] = {
            name: list(chain.from_iterable(factors_of(layer, name) for layer in layers)) for name in names
        }
        self._scales: dict[tuple[Any, ...], float] = {}
        self.plain = all(map(_plain, layers)) and all(each.is_leaf for each in chain.from_iterable(self._factors.values()))

    @property
    def names(self) -> set[str]:
        """Adapters that any layer has."""
        return set(self._factors)

    @property
    def has_strengths(self) -> bool:
        return all(isinstance(held.get("scaling"), dict) for held in self._held)

    def set_adapters(self, names: list[str], strengths: Sequence[float]) -> None:
        """What `set_adapter(names)` and `set_scale(name, strength)` of every layer do."""
        self._ask_gradients(set(names))
        pairs = list(zip(names, strengths))
        Changes.switches += 1
        for layer, held in zip(self.layers, self._held):
            held["_active_adapter"] = names
            self._set_scales(layer, held, pairs)

    def enable(self, on: bool) -> None:
        """What `enable_adapters(on)` of every layer does."""
        Changes.switches += 1
        for held in self._held:
            held["_disable_adapters"] = not on
        active = self._held[0]["_active_adapter"] if self._held else []
        if on and all(held["_active_adapter"] == active for held in self._held):
            self._ask_gradients({active} if isinstance(active, str) else set(active))
        elif on:
            for layer in self.layers:
                layer.set_adapter(layer.active_adapters)
        else:
            self._ask_gradients(set())

    @contextmanager
    def exactly(self, strengths: Mapping[str, float]) -> Iterator[None]:
        """These adapters alone are on, at these strengths; what was on before comes back."""
        before = [(held["_active_adapter"], held["_disable_adapters"], dict(held["scaling"])) for held in self._held]
        names, pairs = list(strengths), list(strengths.items())
        Changes.switches += 1
        try:
            for layer, held in zip(self.layers, self._held):
                held["_active_adapter"], held["_disable_adapters"] = names, not names
                self._set_scales(layer, held, pairs)
            yield
        finally:
            Changes.switches += 1
            for held, (active, off, scaling) in zip(self._held, before):
                held["_active_adapter"], held["_disable_adapters"] = active, off
                held["scaling"].clear()
                held["scaling"].update(scaling)

    def _set_scales(self, layer: Any, held: Mapping[str, Any], pairs: list[tuple[str, float]]) -> None:
        """PEFT computes a strength once for each rank and alpha; the other layers of that kind get the same number."""
        scaling = held["scaling"]
        for name, strength in pairs:
            if name not in scaling:
                continue
            if not self.plain:
                layer.set_scale(name, strength)
                continue
            key = (strength, held["lora_alpha"][name], held["r"][name], held["use_rslora"].get(name))
            found = self._scales.get(key)
            if found is None:
                layer.set_scale(name, strength)
                if len(self._scales) > 4096:
                    self._scales.clear()
                self._scales[key] = scaling[name]
            elif scaling[name] != found:
                scaling[name] = found

    def _ask_gradients(self, names: set[str]) -> None:
        """Factors of these adapters want gradients, those of the others do not."""
        with torch._C.DisableTorchFunctionSubclass():
            for name, factors in self._factors.items():
                wanted = name in names
                for each in compress(factors, map(is_not, map(_wants_gradients, factors), [wanted] * len(factors))):
                    each.requires_grad_(wanted)


def _keys(held: Any) -> Sequence[str]:
    return list(held.keys()) if hasattr(held, "keys") else []


def _plain(layer: Any) -> bool:
    """Whether the layer is one of PEFT's LoRA layers that switches as the base class does."""
    lora, tuners = sys.modules.get("peft.tuners.lora.layer"), sys.modules.get("peft.tuners.tuners_utils")
    if lora is None or tuners is None or not isinstance(layer, lora.LoraLayer):
        return False
    kind, held = type(layer), layer.__dict__
    same = kind.set_scale is lora.LoraLayer.set_scale and all(
        getattr(kind, name, None) is getattr(tuners.BaseTunerLayer, name, None) for name in ("set_adapter", "enable_adapters")
    )
    present = all(key in held for key in ("_active_adapter", "_disable_adapters", "scaling", "lora_alpha", "r", "use_rslora"))
    return (
        same
        and present
        and not getattr(layer, "frozen_peft_weight_names", None)
        and not held.keys() & {"set_scale", "set_adapter", "enable_adapters"}
    )


def layers_of(module: nn.Module) -> list[Any]:
    return [each for each in module.modules() if is_tuner(each)]


def diffusers_calls(original: type, board_of: Callable[[Any], Switchboard | None]) -> dict[str, Callable[..., Any]]:
    """diffusers' calls that switch adapters, for a class that has them from diffusers itself; {} for others. `board_of` None: diffusers' own is called."""
    peft = sys.modules.get("diffusers.loaders.peft")
    if peft is None:
        return {}

    def set_adapters(self: Any, adapter_names: Any, weights: Any = None) -> None:
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        listed = weights if isinstance(weights, list) else [weights] * len(names)
        board = board_of(self) if len(names) == len(listed) and all(each is None or type(each) in (int, float) for each in listed) else None
        if board is None:
            original.set_adapters(self, adapter_names, weights)
            return
        board.set_adapters(names, [1.0 if each is None else each for each in listed])

    def switched(name: str, on: bool) -> Callable[[Any], None]:
        def switch(self: Any) -> None:
            board = board_of(self)
            if board is None:
                getattr(original, name)(self)
                return
            board.enable(on)

        return switch

    calls = {
        "set_adapters": set_adapters, "enable_lora": switched("enable_lora", True), "disable_lora": switched("disable_lora", False),
        "enable_adapters": switched("enable_adapters", True), "disable_adapters": switched("disable_adapters", False),
    }  # fmt: skip
    found = {}
    for name, call in calls.items():
        theirs = getattr(peft.PeftAdapterMixin, name, None)
        if theirs is not None and getattr(original, name, None) is theirs:
            call.__name__, call.__doc__ = name, theirs.__doc__
            found[name] = call
    return found
