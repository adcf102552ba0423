"""Tells whole adapter files in a MODEL's patches by the objects that ComfyUI's loader made of them. 1 us a layer.

What a loader made is noted while its node runs, if it was given every tensor of the file under its own name. At the sampler each patch has to be one of
those objects, where the loader puts it, with the same tensors in the same memory; a piece of each, at a place that nobody can foresee, has to equal the
file's bytes; the whole is compared in the background. What is not clear at once is left to `whole_files`, and then to the comparison of values.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from operator import itemgetter
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.weight_adapter
import torch

from ...stack import Target
from ...stack.patches import digest_of_targets
from ..denoising import NotServed
from ..denoising.origins import MappedFile, Origins, Pieces, Place
from .keys import KeyMap, key_map
from .patches import MODEL_PREFIX, ComfyPatches, parts_of, placed, target_of

# Four stacks of eight: about 10 MB.
KEPT_LOADS = 32

_Pick = Callable[[tuple], tuple]


@dataclass(frozen=True, slots=True)
class _Slot:
    """One object of a loader's answer, and where it stands. `owner`: an adapter; of a plain weight ("diff", (tensor,)) the tensor."""

    load: Load
    name: str
    offset: Any
    function: Any
    kind: str
    owner: weakref.ref
    tensors: _Pick
    references: tuple[weakref.ref, ...]
    addresses: tuple[int, ...]
    others: _Pick
    values: tuple


@dataclass(frozen=True)
class OnModel:
    """What a load is on models of one key map. `slots`: how many patches a MODEL has of it."""

    slots: int
    targets: str
    pieces: Pieces
    rows: tuple[tuple[weakref.ref, Place], ...]


@dataclass(eq=False)
class Load:
    """One call of `load_lora` with a whole file. `rows`: places of the tensors of each slot."""

    file: MappedFile
    key_map: Mapping[str, Any]
    slots: dict[int, _Slot] = field(default_factory=dict)
    rows: dict[int, tuple[tuple[weakref.ref, Place], ...]] = field(default_factory=dict)
    on: dict[int, OnModel | None] = field(default_factory=dict)
    #: Of the file as it was read, once somebody has named it.
    sha256: str | None = None

    @property
    def alive(self) -> bool:
        return any(slot.owner() is not None for slot in self.slots.values())


# A load at one strength, and which of its applications at that strength.
_Use = tuple[Load, float, int]


@dataclass(frozen=True, slots=True)
class Application:
    """A whole file at one strength. `targets`: what it changes, as `engine.prepare` names it."""

    load: Load
    strength: float
    targets: str


class Applied:
    """Used by the thread that runs nodes only, `forget` excepted."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._loads: list[Load] = []
        self._slots: dict[int, _Slot] = {}
        self._targets: dict[tuple[object, ...], str] = {}
        # Key map and parameters of the models that were sampled.
        self._models: dict[int, tuple[KeyMap, frozenset[str]]] = {}

    def forget(self) -> None:
        """A tensor was changed in place: nothing that was noted is believed any more."""
        self._loads, self._slots = [], {}

    def follow(self, loading: Callable[[], None]) -> None:
        """From now on every `load_lora` of a whole file is noted. Nothing is changed in what it gives. `loading`: one has begun."""
        load = comfy.lora.load_lora

        def load_and_note(lora: Any, to_load: Any, *args: Any, **kwargs: Any) -> Any:
            # A loader may take entries out of the dictionary.
            tensors = dict(lora) if isinstance(lora, Mapping) else {}
            loading()
            loaded = load(lora, to_load, *args, **kwargs)
            if isinstance(loaded, dict) and any(self._origins.noted(one) for one in tensors.values()):
                file = self._origins.read_from(tensors.values())
                if file is not None and self._under_own_names(tensors):
                    self._note(file, to_load, loaded)
            return loaded

        comfy.lora.load_lora = load_and_note

    def _under_own_names(self, tensors: dict[str, Any]) -> bool:
        """Whether these are the file's tensors as ComfyUI itself would call them: under other names they would change other layers."""
        in_file = {place.key: one for one in tensors.values() if (place := self._origins.place(one)) is not None}
        own = comfy.lora_convert.convert_lora(in_file)
        return len(own) == len(tensors) and all(own.get(name) is one for name, one in tensors.items())

    def _note(self, file: MappedFile, to_load: Mapping[str, Any], loaded: Mapping[Any, Any]) -> None:
        """`loaded`: what `load_lora` made of all tensors of `file`, with the key map `to_load`. Every one of its tensors has been placed just now."""
        load = Load(file, to_load)
        for key, adapter in loaded.items():
            made = self._slot(load, key, adapter)
            if made is None:
                return
            owner, slot, places = made
            load.slots[id(owner)] = slot
            load.rows[id(owner)] = tuple(zip(slot.references, places, strict=True))
        for names, parameters in self._models.values():
            # Here, and not at the sampler: the loader has other things to do anyway.
            self._on(load, names, parameters)
        # What no MODEL holds any more goes first: thousands of objects, which Python's collector would walk through.
        for old in [old for old in self._loads if not old.alive] or self._loads[: max(0, len(self._loads) - KEPT_LOADS + 1)]:
            self._drop(old)
        self._loads.append(load)
        self._slots |= load.slots

    def _drop(self, load: Load) -> None:
        self._loads.remove(load)
        for number, slot in load.slots.items():
            if self._slots.get(number) is slot:
                del self._slots[number]
        # No circle is left for the collector.
        load.slots.clear()

    def _slot(self, load: Load, key: Any, adapter: Any) -> tuple[Any, _Slot, list[Place]] | None:
        name, offset, function = placed(key)
        try:
            kind, parts = parts_of(name, adapter)
        except NotServed:
            return None
        values = [value for _, value in parts]
        at = [index for index, value in enumerate(values) if isinstance(value, torch.Tensor)]
        rest = [index for index in range(len(values)) if index not in at]
        places = [place for index in at if (place := self._origins.place(values[index])) is not None]
        if not at or len(places) < len(at):
            return None
        owner = adapter if isinstance(adapter, comfy.weight_adapter.WeightAdapterBase) else values[0]
        slot = _Slot(
            load, name, offset, function, kind, weakref.ref(owner), _pick(at), tuple(weakref.ref(values[index]) for index in at),
            tuple(place.address for place in places), _pick(rest), tuple(values[index] for index in rest),
        )  # fmt: skip
        return owner, slot, places

    def read(self, patches: ComfyPatches, model: Any) -> list[Application] | None:
        """The files in their order, where every patch belongs to a whole one; None where one does not, or cannot be told."""
        names = key_map(model)
        if names.number not in self._models:
            self._models[names.number] = names, frozenset(model.diffusion_model.state_dict())
        parameters = self._models[names.number][1]
        counts: Counter[_Use] = Counter()
        orders: dict[tuple[_Use, ...], None] = {}
        slots = self._slots
        for key, live in patches.items():
            order: list[_Use] = []
            here: list[tuple[int, float]] = []
            for strength, adapter, model_strength, offset, function in live:
                slot = _found(slots, adapter)
                if slot is None or slot.name != key or slot.offset != offset or slot.function is not function or model_strength != 1.0:
                    return None
                once = (id(slot), float(strength))
                mine = (slot.load, float(strength), here.count(once))
                counts[mine] += 1
                order.append(mine)
                here.append(once)
            orders[tuple(order)] = None
        out = []
        for use in _in_order(counts, orders):
            load, strength, _ = use
            on = self._on(load, names, parameters)
            if on is None or counts[use] != on.slots:
                return None
            # A file that was replaced since it was named: its newest content will stand in its place.
            if not on.pieces.same() if load.file.current else load.sha256 is None:
                return None
            out.append(Application(load, strength, on.targets))
        if len(out) < len(counts):
            return None
        for load in {one.load for one in out if one.load.file.current}:
            on = load.on[names.number]
            self._origins.compare(on.rows if on is not None else ())
        return out

    def places(self, patches: ComfyPatches, application: Application) -> tuple[tuple[str, int], ...]:
        """Where the live patches of an application are: parameter and index."""
        return tuple(
            (key.removeprefix(MODEL_PREFIX), index)
            for key, live in patches.items()
            for index, (strength, adapter, *_) in enumerate(live)
            if (slot := _found(self._slots, adapter)) is not None and (slot.load, strength) == (application.load, application.strength)
        )

    def _on(self, load: Load, names: KeyMap, parameters: frozenset[str]) -> OnModel | None:
        """None where the load was made with another key map than the model's."""
        if names.number not in load.on:
            load.on[names.number] = self._made(load, names, parameters) if names.items() <= load.key_map.items() else None
        return load.on[names.number]

    def _made(self, load: Load, names: KeyMap, parameters: frozenset[str]) -> OnModel | None:
        mine = {
            number: slot
            for number, slot in load.slots.items()
            if slot.name.startswith(MODEL_PREFIX) and slot.name.removeprefix(MODEL_PREFIX) in parameters
        }
        rows = tuple(row for number in mine for row in load.rows[number])
        known = (load.file.path, load.file.stamp, names.number)
        try:
            if known not in self._targets:
                self._targets[known] = digest_of_targets(_target(slot) for slot in mine.values())
        except NotServed:
            return None
        return OnModel(len(mine), self._targets[known], Pieces(load.file, [place for _, place in rows]), rows)


def _pick(at: list[int]) -> _Pick:
    if len(at) > 1:
        return itemgetter(*at)
    return (lambda values: (values[at[0]],)) if at else (lambda values: ())


def _target(slot: _Slot) -> Target:
    return target_of(slot.name, slot.offset, slot.function)


def _found(slots: dict[int, _Slot], adapter: Any) -> _Slot | None:
    """The slot of a live patch, where it still holds what the loader gave it."""
    try:
        kind, weights = adapter if type(adapter) is tuple else (adapter.name, adapter.weights)
        owner = weights[0] if type(adapter) is tuple else adapter
        slot = slots.get(id(owner))
        if slot is None or slot.owner() is not owner or slot.kind != kind or slot.others(weights) != slot.values:
            return None
        if len(weights) != len(slot.values) + len(slot.references):
            return None
        for tensor, reference, address in zip(slot.tensors(weights), slot.references, slot.addresses, strict=True):
            if reference() is not tensor or tensor.data_ptr() != address:
                return None
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError):
        return None
    return slot


def _in_order(counts: Mapping[_Use, int], orders: Mapping[tuple[_Use, ...], None]) -> list[_Use]:
    """An order that every parameter's own is part of; empty where there is none."""
    sorter = TopologicalSorter({one: () for one in counts})
    for order in orders:
        for before, after in pairwise(order):
            if before != after:
                sorter.add(after, before)
    try:
        return list(sorter.static_order())
    except CycleError:
        return []
