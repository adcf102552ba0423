"""What a module looked like when it was last read, and whether it still does. In: a module. Out: its parameters, inner modules and PEFT
layers, with everything that could change the result of a call. Never: values of tensors.

The question "is it still so?" is asked at every call, so it runs over flat lists in C: identities of all children, parameters and buffers,
counters of all tensors that take part, PEFT's switches and scales.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any, Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from .peft_layers import adapter_names, factors_of, is_tuner, is_wrapper
from .watched import aliases_of, epoch, pointer_of, token, version_of, watch, watchable

# Attributes of every nn.Module, and those that PEFT, accelerate and this package put on one: none of them changes what a call computes.
STANDARD = frozenset(nn.Module().__dict__) | {
    "_is_full_backward_hook", "peft_config", "_hf_peft_config_loaded", "_hf_hook", "_old_forward", "forward", "_refit", "_active_adapter",
    "active_adapter", "_compiled_call_impl", "_is_hf_initialized", "_automatically_saved_args", "_prepare_lora_hotswap_kwargs",
    "_diffusers_hook", "_safe_fusing", "lora_scale",
}  # fmt: skip
_SWITCHES = attrgetter("_active_adapter", "_disable_adapters")
_MERGED = attrgetter("merged_adapters")


class NotServed(Exception):
    """Why an engine cannot stand in for this module; the text completes "the original module runs: ..."."""


class Look(Enum):
    """SAME: nothing changed. VALUES: values, adapters' switches or strengths. OTHER: modules, parameters as objects, or attributes; read the module again."""

    SAME = 0
    VALUES = 1
    OTHER = 2


@dataclass(frozen=True)
class Structure:
    """All that an engine depends on but values: equal structures share an engine."""

    modules: tuple[tuple[str, type], ...]
    tensors: tuple[tuple[str, tuple[int, ...], torch.dtype, bool], ...]


class Counters:
    """The counters of a list of tensors, as they were."""

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self.tensors = list(tensors)
        self.keep()

    def keep(self) -> None:
        """What the tensors hold now is what they held."""
        self._versions, self._pointers = list(map(version_of, self.tensors)), list(map(pointer_of, self.tensors))
        self._aliases = aliases_of(self.tensors)
        self._alias_versions = list(map(version_of, self._aliases))
        self._epoch = epoch()

    @property
    def same(self) -> bool:
        """Exact, but for writes that no counter shows: those change the epoch, and then every token is compared."""
        counted = (
            list(map(version_of, self.tensors)) == self._versions and list(map(pointer_of, self.tensors)) == self._pointers
            and list(map(version_of, self._aliases)) == self._alias_versions
        )  # fmt: skip
        return counted and self._epoch == epoch()


@dataclass
class Snapshot:
    """`tensors`: name without PEFT's `base_layer` -> the tensor. `tuners`: name -> PEFT layer. `attributes`: (module name, attribute) -> value, as it
    was. `tied`: further name of a tensor -> its first. `factors`: every tensor of PEFT's layers."""

    structure: Structure
    tensors: dict[str, Tensor]
    parameters: frozenset[str]
    tied: dict[str, str]
    tuners: dict[str, nn.Module]
    attributes: dict[tuple[str, str], Any]
    factors: list[Tensor]
    _full: list[dict]
    _empty: list[dict]
    _children: list[Any]
    _readers: list[tuple[Callable[[Mapping[str, Any]], Any], dict]]
    _values: list[Any]
    _sizes: list[int]
    _plain: list[dict]
    _hooks: list[Mapping]
    _base: Counters = field(default_factory=Counters)
    _active: Counters = field(default_factory=Counters)
    _active_dicts: list[dict] = field(default_factory=list)
    _active_children: list[Any] = field(default_factory=list)
    _layers: list[nn.Module] = field(default_factory=list)
    _switches: list[Any] = field(default_factory=list)
    _merged: list[list[str]] = field(default_factory=list)
    _scales: list[Any] = field(default_factory=list)
    _found: dict[tuple[int, str], tuple[list[Tensor], list[dict]]] = field(default_factory=dict)

    def look(self) -> Look:
        """Compares the module with what it was. A write into memory from outside (numpy) cannot be seen."""
        if not (self._same_dicts(self._full, self._children) and not any(self._empty) and self._same_attributes()):
            return Look.OTHER
        if not self._same_dicts(self._active_dicts, self._active_children):
            return Look.OTHER
        same = self._base.same and self._active.same and self._same_switches()
        return Look.SAME if same else Look.VALUES

    def holds(self) -> bool:
        return self.look() is Look.SAME

    @staticmethod
    def _same_dicts(dicts: list[dict], children: list[Any]) -> bool:
        return sum(map(len, dicts)) == len(children) and all(map(is_, chain.from_iterable(map(dict.values, dicts)), children))

    def _same_switches(self) -> bool:
        return (
            list(map(_SWITCHES, self._layers)) == self._switches and list(map(_MERGED, self._layers)) == self._merged
            and [layer.__dict__.get("scaling") for layer in self._layers] == self._scales
        )  # fmt: skip

    def _same_attributes(self) -> bool:
        if list(map(len, self._plain)) != self._sizes:
            return False
        try:
            return all(map(is_, chain.from_iterable(read(held) for read, held in self._readers), self._values))
        except KeyError:
            return False

    def keep(self) -> None:
        """What the module is now is what it was: called once an engine has followed it."""
        self._base.keep()
        self._layers = list(self.tuners.values())
        self._switches = [_kept(_SWITCHES(layer)) for layer in self._layers]
        self._merged = [list(layer.merged_adapters) for layer in self._layers]
        self._scales = [_copied(layer.__dict__.get("scaling")) for layer in self._layers]
        tensors: list[Tensor] = []
        self._active_dicts = []
        for layer, (active, off), merged in zip(self._layers, self._switches, self._merged):
            if off or merged:
                continue
            for name in adapter_names(active):
                key = (id(layer), name)
                if key not in self._found:
                    self._found[key] = factors_of(layer, name)
                found, dicts = self._found[key]
                tensors += found
                self._active_dicts += dicts
        self._active = Counters(tensors)
        self._active_children = list(chain.from_iterable(map(dict.values, self._active_dicts)))

    @property
    def hooked(self) -> bool:
        """Whether an inner module has hooks: an engine would not call them."""
        return any(self._hooks)

    def tokens(self) -> dict[str, tuple[Any, ...]]:
        """By name: equal for equal values of one tensor object. Batch norms write their running statistics past every counter; what counts is how
        many batches they have seen."""
        found: dict[str, tuple[Any, ...]] = {name: (id(tensor), *token(tensor)) for name, tensor in self.tensors.items()}
        for name in found:
            stem, _, leaf = name.rpartition(".")
            if leaf in ("running_mean", "running_var"):
                found[name] += found.get(f"{stem}.num_batches_tracked" if stem else "num_batches_tracked", ())
        return found

    @property
    def base_is_same(self) -> bool:
        """Whether parameters and buffers themselves are as they were: then only adapters changed."""
        return self._base.same


def take(root: nn.Module) -> Snapshot:
    """Reads a module, and starts to watch its tensors. Raises NotServed for what no engine can stand in for."""
    tensors: dict[str, Tensor] = {}
    parameters: set[str] = set()
    tied: dict[str, str] = {}
    tuners: dict[str, nn.Module] = {}
    attributes: dict[tuple[str, str], Any] = {}
    first: dict[int, str] = {}
    modules, dicts, hooks, readers, values, plain, factors = [], [], [], [], [], [], []
    for name, module, tuner in _walk(root, ""):
        if tuner:
            # Which adapters there are; what is inside of them is watched while they are on.
            dicts += [module._modules, *(child._modules for child in module._modules.values() if isinstance(child, nn.ModuleDict))]
            factors += [
                value
                for key, child in module._modules.items()
                if key != "base_layer" and child is not None
                for value in (*child.parameters(), *child.buffers())
            ]
            factors += [each for each in (*module._parameters.values(), *module._buffers.values()) if each is not None]
            tuners[name] = module
            continue
        dicts += [module._modules, module._parameters, module._buffers]
        if module is not root:
            hooks += [module._forward_hooks, module._forward_pre_hooks]
        modules.append((name, _class_of(module)))
        for held, into in ((module._parameters, parameters), (module._buffers, None)):
            for key, value in held.items():
                if value is None:
                    continue
                full = f"{name}.{key}" if name else key
                if not watchable(value):
                    raise NotServed(f"{full} is a {type(value).__name__}, whose values an engine cannot read")
                if id(value) in first:
                    tied[full] = first[id(value)]
                    continue
                first[id(value)] = full
                tensors[full] = value
                if into is not None:
                    into.add(full)
        own = [key for key in module.__dict__ if key not in STANDARD]
        attributes |= {(name, key): module.__dict__[key] for key in own}
        if own and _may_change(module):
            readers.append((_reader(own), module.__dict__))
            values += [module.__dict__[key] for key in own]
            plain.append(module.__dict__)
    for each in (*tensors.values(), *factors):
        if each.is_inference():
            raise NotServed("its parameters were made in inference mode, where PyTorch does not count writes; load it outside of it")
        watch(each)
    rows = tuple((name, tuple(value.shape), value.dtype, name in parameters) for name, value in tensors.items())
    full = [each for each in dicts if each]
    found = Snapshot(
        Structure(tuple(modules), rows), tensors, frozenset(parameters), tied, tuners, attributes, factors, full, [each for each in dicts if not each],
        list(chain.from_iterable(map(dict.values, full))), readers, values, list(map(len, plain)), plain, hooks, Counters(tensors.values()),
    )  # fmt: skip
    found.keep()
    return found


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def _kept(switches: tuple[Any, bool]) -> tuple[Any, bool]:
    active, off = switches
    return (list(active) if isinstance(active, list) else active), off


def _class_of(module: nn.Module) -> type:
    """The class that a user wrote, not the one that a RefitModule derives from it."""
    return getattr(type(module), "_refit_original_class", type(module))


def _may_change(module: nn.Module) -> bool:
    """Numbers of PyTorch's own layers are left out: there are thousands of them and nobody changes them."""
    return not type(module).__module__.startswith("torch.nn.")


def _reader(keys: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(keys) == 1:
        (key,) = keys
        return lambda held: (held[key],)
    return itemgetter(*keys)


def _walk(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module, bool]]:
    """(name without PEFT's wrappers, module, whether it is a PEFT layer), PEFT's inner modules left out but for base layers."""
    if is_wrapper(module):
        raise NotServed(f"{name} is a {type(module).__name__} of PEFT")
    if not is_tuner(module):
        yield name, module, False
        for key, child in module._modules.items():
            if child is not None:
                yield from _walk(child, f"{name}.{key}" if name else key)
        return
    yield name, module, True
    base = module._modules["base_layer"]
    if is_tuner(base):
        raise NotServed(f"{name} has two kinds of PEFT adapters in one layer")
    yield from _walk(base, name)
