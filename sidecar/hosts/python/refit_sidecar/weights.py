"""Live weights of an engine, and the refit between two calls. In: a snapshot of the module. Out: memory that the engine's module reads, equal to
round(value + sum(scale * up * down)) everywhere. Never: a guess; what cannot be computed raises, and nothing counts as live.

One arena per number format; merges are the engine hosts' own kernels (refit_host.weights).
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from typing import Any, Mapping

import numpy as np
import torch
from refit_host.weights.layout import Layout, Slot
from refit_host.weights.merge import merger
from refit_host.weights.table import build_table
from torch import Tensor, nn

from .coded import Coded
from .packing import CODES, Packed, pack
from .peft_layers import LowRank, adapter_names, has_adapter, low_rank, merged_values, settle
from .snapshot import Snapshot
from .watched import token

# Packed adapters that stay on the device when they are off.
MAX_PACKED = 32


@dataclass(frozen=True)
class Refit:
    """What one refit did. `written`: names of parameters, `base_changed`: those whose own value changed, `adapters`: those that are in the weights now,
    `ms`: milliseconds on the caller's clock."""

    written: tuple[str, ...]
    base_changed: tuple[str, ...]
    adapters: tuple[str, ...]
    ms: float


@dataclass
class Group:
    """Parameters of one number format in one arena, which the engine reads."""

    layout: Layout
    live: Tensor
    views: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Wish:
    """What the module computes with now. `scales`: adapter -> strength by layer name, in the order in which they are added. `slow`: parameters that PEFT has to
    merge, with their layer and adapters."""

    order: list[str]
    scales: dict[str, dict[str, float]]
    slow: dict[str, tuple[Any, tuple[str, ...]]]


class LiveWeights:
    """`wanted`: number format of the engine, None: each parameter's own. `device`: the engine's. The wrapped module's own parameters are the pristine
    values; they stay where they are, so that whoever holds a view of them goes on writing into the module."""

    def __init__(
        self, snapshot: Snapshot, device: torch.device, wanted: torch.dtype | None, keep: frozenset[str] = frozenset(), coded: Coded | None = None
    ) -> None:  # fmt: skip
        """`keep`: parameters that keep their own number format. `coded`: those that are held as codes."""
        self.device, self.coded = device, coded
        self.groups: list[Group] = []
        self.slots: dict[str, tuple[Group, Slot]] = {}
        self.buffers: dict[str, Tensor] = {}
        self._bases: dict[str, tuple[Any, ...]] = {}
        self._terms: dict[str, tuple[Any, ...]] = {}
        self._packed: dict[tuple[int, str], Packed] = {}
        self._packings = 0
        self._products: dict[tuple[int, str], LowRank | None] = {}
        self._now: dict[str, tuple[str, ...]] = {}
        name, self._prepare = merger(device)
        # Triton's kernel takes the place of every pristine value.
        self._reads_anywhere = name == "triton"
        formats: dict[torch.dtype, dict[str, tuple[int, ...]]] = {}
        held = coded.names if coded is not None else frozenset()
        for name, tensor in snapshot.tensors.items():
            if name in held:
                continue
            if name not in snapshot.parameters or not tensor.is_floating_point():
                self.buffers[name] = _cast(tensor, None if name in keep or name not in snapshot.parameters else wanted, device)
            else:
                formats.setdefault(tensor.dtype if wanted is None or name in keep else wanted, {})[name] = tuple(tensor.shape)
        for kind, shapes in formats.items():
            layout = Layout.build(shapes, kind)
            live = torch.empty(layout.nbytes, dtype=torch.uint8, device=device)
            group = Group(layout, live, {slot.name: slot.view(live) for slot in layout.slots})
            self.groups.append(group)
            self.slots |= {slot.name: (group, slot) for slot in layout.slots}

    def parameter(self, name: str) -> Tensor:
        """What the engine's module binds: a view of the live arena, or the buffer's own copy. Nothing (on the meta device) for codes, which layers of
        their own read."""
        if self.coded is not None and name in self.coded.names:
            return torch.empty(self.coded.layout.by_name[name].shape, device="meta")
        found = self.slots.get(name)
        return self.buffers[name] if found is None else found[0].views[name]

    def other_layers(self) -> None:
        """PEFT's layers are no longer the objects that they were."""
        self._products.clear()
        self._packed.clear()

    # --- what should be live

    def _wish(self, snapshot: Snapshot) -> Wish:
        order: dict[str, None] = {}
        scales: dict[str, dict[str, float]] = {}
        slow: dict[str, tuple[Any, tuple[str, ...]]] = {}
        combos: dict[int, list[str]] = {}
        for name, layer in snapshot.tuners.items():
            held = layer.__dict__
            if held["_disable_adapters"] or held["merged_adapters"]:
                continue
            active = held.get("_active_adapter", layer._active_adapter)
            names = combos.get(id(active))
            if names is None:
                names = combos[id(active)] = adapter_names(active)
                order.update(dict.fromkeys(names))
            strengths = held.get("scaling")
            whole = True
            for adapter in names:
                term = self._product(name, layer, adapter)
                if term is None:
                    whole = whole and not has_adapter(layer, adapter)
                else:
                    strength = strengths[adapter]
                    whole = whole and isinstance(strength, (int, float))
                    scales.setdefault(adapter, {})[name] = strength
            if not whole:
                for adapter in names:
                    scales.get(adapter, {}).pop(name, None)
                present = tuple(adapter for adapter in names if has_adapter(layer, adapter))
                slow |= {
                    f"{name}.{key}" if name else key: (layer, present)
                    for key, value in layer.get_base_layer()._parameters.items()
                    if value is not None
                }
        return Wish(list(order), scales, slow)

    def _product(self, name: str, layer: Any, adapter: str) -> LowRank | None:
        """The adapter's plain product on this layer, if it is one that the kernels can do."""
        key = (id(layer), adapter)
        if key not in self._products:
            term = low_rank(layer, adapter)
            slot = self._slot(f"{name}.weight" if name else "weight")
            fits = term is not None and slot is not None and term.up.dtype in CODES and term.up.device == self.device and _fits(term, slot)
            self._products[key] = term if fits else None
        return self._products[key]

    def _slot(self, name: str) -> Slot | None:
        if self.coded is not None and name in self.coded.names:
            return self.coded.layout.by_name[name]
        found = self.slots.get(name)
        return None if found is None else found[1]

    def _targets(self, snapshot: Snapshot, wish: Wish) -> dict[str, tuple[Any, ...]]:
        """By parameter that adapters touch: what says that its adapters' part is the same."""
        out: dict[str, tuple[Any, ...]] = {}
        for adapter in wish.order:
            layers = wish.scales.get(adapter)
            if not layers:
                continue
            stamps = {id(group): self._pack(group, adapter, snapshot).stamp for group in self.groups}
            for name, strength in layers.items():
                if strength == 0:
                    continue
                full = f"{name}.weight" if name else "weight"
                found = self.slots.get(full)
                stamp = stamps[id(found[0])] if found is not None else _stamp(self._products[id(snapshot.tuners[name]), adapter])
                out[full] = (*out.get(full, ()), adapter, strength, stamp)
        for full, (layer, names) in wish.slow.items():
            out[full] = ("slow", names, _layer_token(layer, names))
        return out

    def differs(self, snapshot: Snapshot) -> list[str]:
        """Names of parameters and buffers whose values are not live."""
        terms = self._targets(snapshot, self._wish(snapshot))
        bases = snapshot.tokens()
        return [
            name for name in snapshot.tensors if self._bases.get(name) != bases[name] or self._terms.get(name, ()) != terms.get(name, ())
        ]

    # --- the refit

    @torch.no_grad()
    def refit(self, snapshot: Snapshot, *, base_is_same: bool = False) -> Refit:
        """Writes what differs, and only that. `base_is_same`: the caller knows that only adapters changed. A failure leaves those parameters unknown: they are
        written by the next refit. Raises what PEFT's merge raises, and out-of-memory errors."""
        began = time.perf_counter()
        for layer in snapshot.tuners.values():
            if layer.__dict__["_disable_adapters"] and layer.__dict__["merged_adapters"]:
                settle(layer)
                base_is_same = False
        wish = self._wish(snapshot)
        terms = self._targets(snapshot, wish)
        bases = self._bases if base_is_same else snapshot.tokens()
        moved = [] if base_is_same else [name for name, stamp in bases.items() if self._bases.get(name) != stamp]
        touched = dict.fromkeys([*self._terms, *terms])
        changed = dict.fromkeys(moved) | {name: None for name in touched if self._terms.get(name, ()) != terms.get(name, ())}
        for name in changed:
            self._bases.pop(name, None) if not base_is_same else None
            self._terms[name] = ("unknown",)
        for name in moved:
            if name in self.buffers:
                self.buffers[name].copy_(snapshot.tensors[name].detach())
        for group in self.groups:
            mine = [self.slots[name][1] for name in changed if name in self.slots and self.slots[name][0] is group]
            if mine:
                self._write(group, mine, wish, terms, snapshot)
        if self.coded is not None:
            for name in changed:
                if name in self.coded.names:
                    self._code(name, wish, snapshot)
        for name in changed:
            self._terms.pop(name, None)
            if name in terms:
                self._terms[name] = terms[name]
            if not base_is_same:
                self._bases[name] = bases[name]
            self._now[name] = wish.slow[name][1] if name in wish.slow else tuple(terms.get(name, ())[::3])
        adapters = tuple(dict.fromkeys(adapter for names in self._now.values() for adapter in names))
        return Refit(tuple(changed), tuple(moved), adapters, (time.perf_counter() - began) * 1000)

    def _write(self, group: Group, slots: list[Slot], wish: Wish, terms: dict[str, tuple[Any, ...]], snapshot: Snapshot) -> None:
        """Pristine values from the module itself, and what adapters add, rounded once. The kernel reads those values where they lie; else they are copied
        first, and merged in place."""
        slow = [slot for slot in slots if slot.name in wish.slow]
        fast = [slot for slot in slots if slot.name not in wish.slow and slot.name in terms]
        sources = self._sources(group, fast, snapshot) if self._reads_anywhere else {}
        copied = [slot for slot in slots if slot.name not in wish.slow and slot.index not in sources]
        if copied:
            torch._foreach_copy_([group.views[slot.name] for slot in copied], [snapshot.tensors[slot.name] for slot in copied])
        if fast:
            self._merge(group, fast, wish, sources)
        done: dict[int, dict[str, Tensor]] = {}
        for slot in slow:
            layer, names = wish.slow[slot.name]
            if id(layer) not in done:
                done[id(layer)] = merged_values(layer, names, self.device)
            slot.put(group.live, done[id(layer)][slot.name.rpartition(".")[2]])

    def _sources(self, group: Group, slots: list[Slot], snapshot: Snapshot) -> dict[int, int]:
        """By slot index: bytes from the arena's start to the module's own value, where that can be read as it is."""
        kind, start = group.layout.slots[0].dtype, group.live.data_ptr()
        found = {}
        for slot in slots:
            tensor = snapshot.tensors[slot.name]
            if tensor.dtype == kind and tensor.device == self.device and tensor.is_contiguous():
                found[slot.index] = tensor.data_ptr() - start
        return found

    def _merge(self, group: Group, slots: list[Slot], wish: Wish, sources: Mapping[int, int]) -> None:
        wanted = np.zeros(len(group.layout.slots), bool)
        wanted[[slot.index for slot in slots]] = True
        stack, buffers = [], []
        for adapter in wish.order:
            held, strengths = self._packed.get((id(group), adapter)), wish.scales.get(adapter)
            if held is None or not strengths:
                continue
            rows = held.rows.copy()
            rows["scale"] = [strengths.get(name, 0.0) for name, _ in held.layers]
            rows = rows[wanted[rows["slot"]] & (rows["scale"] != 0)]
            if len(rows):
                stack.append((rows, 1.0))
                buffers.append(held.buffer)
        table = build_table(group.layout, stack, slots)
        if not self._reads_anywhere:
            run = self._prepare(group.layout, table, buffers, self.device, np.zeros(len(table.jobs), np.int64))
            run[0](group.live, group.live, None)
            return
        from refit_host.weights import merge_triton

        places = group.layout.table[:, 0].copy()
        places[list(sources)] = list(sources.values())
        merge_triton.run(
            merge_triton.prepare(group.layout, table, buffers, self.device, sources=places), group.layout, group.live, group.live
        )

    def _code(self, name: str, wish: Wish, snapshot: Snapshot) -> None:
        """One matrix: merged in f32 from the module's own value, coded once."""
        assert self.coded is not None
        slot, layer_name = self.coded.layout.by_name[name], name.removesuffix(".weight")
        if name in wish.slow:
            layer, names = wish.slow[name]
            value = merged_values(layer, names, self.device)[name.rpartition(".")[2]]
        else:
            value = snapshot.tensors[name].detach().to(self.device, torch.float32, copy=True)
            for adapter in wish.order:
                strength = wish.scales.get(adapter, {}).get(layer_name, 0)
                term = self._products.get((id(snapshot.tuners.get(layer_name)), adapter))
                if strength and term is not None:
                    value.addmm_(
                        term.up.detach().float().reshape(slot.rows, -1), term.down.detach().float().reshape(-1, slot.cols), alpha=strength
                    )
        self.coded.put(name, value.reshape(slot.rows, slot.cols))

    def _pack(self, group: Group, adapter: str, snapshot: Snapshot) -> Packed:
        """All products of an adapter in this group in one buffer, made anew when a factor changed."""
        key = (id(group), adapter)
        held = self._packed.get(key)
        if held is not None and held.is_current():
            return held
        terms = []
        for name, layer in snapshot.tuners.items():
            found = self.slots.get(f"{name}.weight" if name else "weight")
            if found is None or found[0] is not group:
                continue
            term = self._product(name, layer, adapter)
            if term is not None:
                terms.append((found[1], term, (name, layer)))
        terms.sort(key=lambda row: row[0].index)
        self._packings += 1
        self._packed.pop(key, None)
        while len(self._packed) >= MAX_PACKED:
            self._packed.pop(next(iter(self._packed)))
        made = self._packed[key] = pack(terms, self.device, self._packings)
        return made


def _stamp(term: LowRank | None) -> int:
    return 0 if term is None else zlib.crc32(repr((id(term.up), token(term.up), id(term.down), token(term.down))).encode())


def _layer_token(layer: nn.Module, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Of everything in a PEFT layer but its base: conservative, for layers that are not plain products."""
    inner = [tensor for key, child in layer._modules.items() if key != "base_layer" and child is not None for tensor in child.parameters()]
    inner += [each for each in layer._parameters.values() if each is not None]
    scales = layer.__dict__.get("scaling")
    return (*((id(each), token(each)) for each in inner), tuple(scales.get(name) for name in names) if isinstance(scales, dict) else None)


def _fits(term: LowRank, slot: Slot) -> bool:
    rank = term.down.shape[0]
    return rank > 0 and term.up.numel() == slot.rows * rank and term.down.numel() == rank * slot.cols and len(slot.shape) >= 2


def _cast(tensor: Tensor, wanted: torch.dtype | None, device: torch.device) -> Tensor:
    kind = wanted if wanted is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device, kind, copy=True)
