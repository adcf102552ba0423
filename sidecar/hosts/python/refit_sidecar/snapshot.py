"""What a module looked like when it was last read, and whether it still does. In: a module. Out: its parameters, inner modules and PEFT
layers, with everything that could change the result of a call. Never: values of tensors.

The question "is it still so?" is asked at every call, so it runs over flat lists in C: identities of all children, parameters and buffers,
counters of all tensors, PEFT's switches and scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any, Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from .peft_layers import is_tuner, is_wrapper
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


@dataclass(frozen=True)
class Structure:
    """All that an engine depends on but values: equal structures share an engine."""

    modules: tuple[tuple[str, type], ...]
    tensors: tuple[tuple[str, tuple[int, ...], torch.dtype, bool], ...]


@dataclass
class Snapshot:
    """`tensors`: name without PEFT's `base_layer` -> the tensor. `tuners`: name -> PEFT layer. `attributes`: (module name, attribute) -> value, as it
    was. `aliases` of a name are further names of the same tensor."""

    structure: Structure
    tensors: dict[str, Tensor]
    parameters: frozenset[str]
    tied: dict[str, str]
    tuners: dict[str, nn.Module]
    attributes: dict[tuple[str, str], Any]
    factors: list[Tensor]
    _dicts: list[dict]
    _children: list[Any]
    _readers: list[tuple[Callable[[Mapping[str, Any]], Any], dict]]
    _values: list[Any]
    _sizes: list[int]
    _plain: list[dict]
    _hooks: list[Mapping]
    _watched: list[Tensor]
    _versions: list[int]
    _pointers: list[int]
    _aliases: list[Tensor]
    _alias_versions: list[int]
    _epoch: int
    _layers: list[nn.Module]
    _switches: list[Any]
    _merged: list[list[str]]
    _scales: list[Any]

    def holds(self) -> bool:
        """Whether nothing changed since: parameters, buffers, inner modules, their attributes, adapters, switches, scales. Exact for every write
        that PyTorch counts, for `.data` and for optimisers; a write into memory from outside (numpy) cannot be seen."""
        return (
            self._epoch == epoch()
            and sum(map(len, self._dicts)) == len(self._children)
            and all(map(is_, chain.from_iterable(map(dict.values, self._dicts)), self._children))
            and list(map(version_of, self._watched)) == self._versions
            and list(map(pointer_of, self._watched)) == self._pointers
            and list(map(version_of, self._aliases)) == self._alias_versions
            and list(map(_SWITCHES, self._layers)) == self._switches
            and list(map(_MERGED, self._layers)) == self._merged
            and [layer.__dict__.get("scaling") for layer in self._layers] == self._scales
            and self._same_attributes()
        )  # fmt: skip

    def _same_attributes(self) -> bool:
        if list(map(len, self._plain)) != self._sizes:
            return False
        try:
            return all(map(is_, chain.from_iterable(read(held) for read, held in self._readers), self._values))
        except KeyError:
            return False

    @property
    def hooked(self) -> bool:
        """Whether an inner module has hooks: an engine would not call them."""
        return any(self._hooks)

    def tokens(self) -> dict[str, tuple[int, ...]]:
        """By name: equal for equal values of one tensor object. Batch norms write their running statistics past every counter; what counts is how
        many batches they have seen."""
        found = {name: (id(tensor), *token(tensor)) for name, tensor in self.tensors.items()}
        for name in found:
            stem, _, leaf = name.rpartition(".")
            if leaf in ("running_mean", "running_var"):
                found[name] += found.get(f"{stem}.num_batches_tracked" if stem else "num_batches_tracked", ())
        return found


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
        dicts += [module._modules, module._parameters, module._buffers]
        if tuner:
            factors += [each for each in (*module._parameters.values(), *module._buffers.values()) if each is not None]
            if name is not None:
                tuners[name] = module
            continue
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
    watched = [*tensors.values(), *factors]
    for each in watched:
        if each.is_inference():
            raise NotServed("its parameters were made in inference mode, where PyTorch does not count writes; load it outside of it")
        watch(each)
    aliases = aliases_of(watched)
    layers = list(tuners.values())
    rows = tuple((name, tuple(value.shape), value.dtype, name in parameters) for name, value in tensors.items())
    return Snapshot(
        Structure(tuple(modules), rows), tensors, frozenset(parameters), tied, tuners, attributes, factors, dicts,
        list(chain.from_iterable(map(dict.values, dicts))), readers, values, list(map(len, plain)), plain, hooks, watched,
        list(map(version_of, watched)), list(map(pointer_of, watched)), aliases, list(map(version_of, aliases)), epoch(), layers,
        [_kept(_SWITCHES(layer)) for layer in layers], [list(layer.merged_adapters) for layer in layers], [_copied(layer.__dict__.get("scaling")) for layer in layers],
    )  # fmt: skip


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


def _walk(module: nn.Module, name: str) -> Iterator[tuple[str | None, nn.Module, bool]]:
    """(name without PEFT's wrappers, module, whether it belongs to PEFT). A PEFT layer's inner modules have no name, but for its base layer."""
    if is_wrapper(module):
        raise NotServed(f"{name} is a {type(module).__name__} of PEFT")
    if not is_tuner(module):
        yield name, module, False
        for key, child in module._modules.items():
            if child is not None:
                yield from _walk(child, f"{name}.{key}" if name else key)
        return
    yield name, module, True
    for key, child in module._modules.items():
        if key == "base_layer":
            if is_tuner(child):
                raise NotServed(f"{name} has two kinds of PEFT adapters in one layer")
            yield from _walk(child, name)
        elif child is not None:
            yield from ((None, each, True) for each in child.modules())
