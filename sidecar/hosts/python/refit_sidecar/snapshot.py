"""What a module looked like when it was last read, and whether it still does. In: a module. Out: its parameters, inner modules and PEFT
layers, with everything that could change the result of a call. Never: values of tensors.

The question "is it still so?" is asked at every call, so it runs over flat lists in C, and reads as little memory as it can: dicts of modules and
parameters count their changes (counted.py); counters of all tensors that take part, attributes and PEFT's switches are read. Lists are compared with
`==`, which takes one object for itself without asking it. No list of new tuples is held meanwhile: as many as there are layers would start Python's
garbage collector at every call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from .counted import SWITCHES, Changes, count_layer, count_merged, count_module, original_class
from .peft_layers import adapter_names, factors_of, is_tuner, is_wrapper
from .watched import aliases_of, epoch, token, watch, watchable

# Attributes of every nn.Module, and those that PEFT, accelerate and this package put on one: none of them changes what a call computes.
STANDARD = frozenset(nn.Module().__dict__) | {
    "_is_full_backward_hook", "peft_config", "_hf_peft_config_loaded", "_hf_hook", "_old_forward", "forward", "_refit", "_active_adapter",
    "active_adapter", "_compiled_call_impl", "_is_hf_initialized", "_automatically_saved_args", "_prepare_lora_hotswap_kwargs",
    "_diffusers_hook", "_safe_fusing", "lora_scale",
}  # fmt: skip
_versions_of = attrgetter("_version")


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
        self._versions = list(map(_versions_of, self.tensors))
        self._aliases = aliases_of(self.tensors)
        self._alias_versions = list(map(_versions_of, self._aliases))
        self._epoch = epoch()

    @property
    def same(self) -> bool:
        """Exact: writes that no counter shows change the epoch, and then every token is compared."""
        return (
            self._epoch == epoch() and list(map(_versions_of, self.tensors)) == self._versions
            and list(map(_versions_of, self._aliases)) == self._alias_versions
        )  # fmt: skip


class Held:
    """What a list of dicts holds, by identity. They count their changes, so that they are only read when any of them has changed."""

    def __init__(self, dicts: Iterable[dict]) -> None:
        self._changes = Changes.objects
        self._dicts = list(dicts)
        self._values = [*map(tuple, map(dict.items, self._dicts))]

    @property
    def same(self) -> bool:
        changes = Changes.objects
        if self._changes != changes:
            if not all(map(_same_items, self._dicts, self._values)):
                return False
            self._changes = changes
        return True


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
    _objects: Held
    _readers: list[tuple[Callable[[Mapping[str, Any]], tuple[Any, ...]], Mapping[str, Any]]]
    _values: list[Any]
    _sizes: list[int]
    _plain: list[dict]
    _hooks: list[Mapping]
    _base: Counters = field(default_factory=Counters)
    _factors: dict[str, Counters] = field(default_factory=dict)
    _on: list[Counters] = field(default_factory=list)
    _switches: list[Any] = field(default_factory=list)
    _lists: list[tuple[list, list]] = field(default_factory=list)
    _changes: int = 0

    def look(self) -> Look:
        """Compares the module with what it was. A write into memory from outside (numpy) cannot be seen."""
        # Without it every read of a counter asks the tensor's class for an override.
        with torch._C.DisableTorchFunctionSubclass():
            if not (self._objects.same and self._same_attributes()):
                return Look.OTHER
            same = self._same_switches() and self._base.same and all(each.same for each in self._on)
            return Look.SAME if same else Look.VALUES

    def holds(self) -> bool:
        return self.look() is Look.SAME

    @property
    def same_objects(self) -> bool:
        """Whether modules, parameters and adapters are the objects that they were."""
        return self._objects.same

    def _now_switches(self) -> list[Any]:
        """Four values for each layer: its switches, and its strengths or None."""
        return [value for layer in self.tuners.values() for value in _switches_of(layer)]

    def _same_switches(self) -> bool:
        changes = Changes.switches
        if changes == self._changes:
            # The lists of active adapters, of which all layers mostly share one, are the user's own.
            return all(now == before for now, before in self._lists)
        if not _same(self._now_switches(), self._switches):
            return False
        self._keep_switches()
        return True

    def _keep_switches(self) -> list[Any]:
        for layer in self.tuners.values():
            count_merged(layer)
        self._changes = Changes.switches
        now = self._now_switches()
        self._switches = [value.copy() if isinstance(value, (list, dict)) else value for value in now]
        lists = {id(value): value for value in now[::4] if isinstance(value, list)}
        self._lists = [(value, value.copy()) for value in lists.values()]
        return now

    def _same_attributes(self) -> bool:
        if list(map(len, self._plain)) != self._sizes:
            return False
        try:
            return _same(list(chain.from_iterable(map(_read, self._readers))), self._values)
        except KeyError:
            return False

    def keep(self) -> None:
        """What the module is now is what it was: called once an engine has followed it."""
        self._base.keep()
        now = self._keep_switches()
        on: dict[str, None] = {}
        for active, off, merged in zip(now[::4], now[1::4], now[2::4]):
            if not off and not merged:
                on.update(dict.fromkeys(adapter_names(active)))
        self._on = []
        for name in on:
            if name not in self._factors:
                self._factors[name] = Counters(chain.from_iterable(factors_of(layer, name) for layer in self.tuners.values()))
            self._factors[name].keep()
            self._on.append(self._factors[name])

    @property
    def watched(self) -> int:
        """Tensors whose counters are read by every look."""
        return len(self._base.tensors) + sum(len(each.tensors) for each in self._on)

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
            # Which adapters there are; their values are watched while they are on.
            dicts += count_layer(module)
            factors += [
                value
                for key, child in module._modules.items()
                if key != "base_layer" and child is not None
                for value in (*child.parameters(), *child.buffers())
            ]
            factors += [each for each in (*module._parameters.values(), *module._buffers.values()) if each is not None]
            tuners[name] = module
            continue
        dicts += count_module(module)
        if module is not root:
            hooks += [module._forward_hooks, module._forward_pre_hooks]
        modules.append((name, original_class(module)))
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
            # One key alone would not give a tuple.
            readers.append((itemgetter(*own, own[0]), module.__dict__))
            values += _read(readers[-1])
            plain.append(module.__dict__)
    for each in (*tensors.values(), *factors):
        if each.is_inference():
            raise NotServed("its parameters were made in inference mode, where PyTorch does not count writes; load it outside of it")
        watch(each)
    rows = tuple((name, tuple(value.shape), value.dtype, name in parameters) for name, value in tensors.items())
    found = Snapshot(
        Structure(tuple(modules), rows), tensors, frozenset(parameters), tied, tuners, attributes, factors, Held(dicts), readers,
        values, list(map(len, plain)), plain, hooks, Counters(tensors.values()),
    )  # fmt: skip
    found.keep()
    return found


def _same(now: list[Any], before: list[Any]) -> bool:
    """Equal, element by element; what refuses the comparison (two tensors) is another object."""
    try:
        return now == before
    except Exception:  # objects of a user's module may refuse in any way
        return False


def _same_items(held: dict, before: tuple[tuple[str, Any], ...]) -> bool:
    return len(held) == len(before) and all(key == old and value is was for (key, value), (old, was) in zip(held.items(), before))


def _switches_of(layer: Any) -> list[Any]:
    """Some kinds of adapters leave one or the other to their class."""
    held = layer.__dict__
    found = [held[key] if key in held else getattr(layer, key, None) for key in SWITCHES]
    return [*found, held.get("scaling")]


def _read(reader: tuple[Callable[[Mapping[str, Any]], tuple[Any, ...]], Mapping[str, Any]]) -> tuple[Any, ...]:
    return reader[0](reader[1])


def _may_change(module: nn.Module) -> bool:
    """Numbers of PyTorch's own layers are left out: there are thousands of them and nobody changes them."""
    return not type(module).__module__.startswith("torch.nn.")


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
