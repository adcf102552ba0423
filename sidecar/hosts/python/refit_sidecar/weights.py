"""Live weights of an engine beside the pristine ones, and the refit between two calls. In: a snapshot of the module. Out: memory that the engine's
module reads, equal to round(base + sum(scale * up * down)) everywhere. Never: a guess; what cannot be computed raises, and nothing counts as live.

One arena per number format; merges are the engine hosts' own kernels (refit_host.weights).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Iterable

import numpy as np
import torch
from refit_host.weights.image import ALIGN, FAST, FAST_DTYPES
from refit_host.weights.layout import Layout, Slot
from refit_host.weights.merge import merger
from refit_host.weights.table import build_table
from torch import Tensor

from .coded import Coded
from .peft_layers import LowRank, active_adapters, low_rank, merged_values, settle
from .snapshot import Snapshot
from .watched import token

CODES = {torch.float16: FAST_DTYPES["F16"], torch.bfloat16: FAST_DTYPES["BF16"], torch.float32: FAST_DTYPES["F32"]}


@dataclass(frozen=True)
class Refit:
    """What one refit did. `written`: names of parameters, `adapters`: those that are in the weights now, `ms`: milliseconds on the caller's clock."""

    written: tuple[str, ...]
    base_changed: tuple[str, ...]
    adapters: tuple[str, ...]
    ms: float


@dataclass
class Group:
    """Parameters of one number format in one arena, which the engine reads."""

    layout: Layout
    live: Tensor


@dataclass(frozen=True)
class Factors:
    """One adapter's products of one group, packed: what a swap back to it needs no copy for. `rows` by slot index."""

    stamps: tuple[Any, ...]
    buffer: Tensor
    rows: np.ndarray


@dataclass
class Wish:
    """What every slot should hold: its base's token and the terms on it. `slow`: slots that PEFT itself has to merge, with their layer."""

    bases: dict[str, tuple[Any, ...]]
    fast: dict[str, list[LowRank]] = field(default_factory=dict)
    slow: dict[str, tuple[Any, tuple[str, ...]]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[Any, ...]:
        """Equal when the value is."""
        layer = self.slow.get(name)
        if layer is not None:
            return self.bases[name], "slow", layer[1], _layer_token(*layer)
        return self.bases[name], tuple((term.adapter, term.scale, id(term.up), token(term.up), id(term.down), token(term.down)) for term in self.fast.get(name, ()))


def _layer_token(layer: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Of everything in a PEFT layer but its base: conservative, for layers that are not plain products."""
    inner = [tensor for key, child in layer._modules.items() if key != "base_layer" and child is not None for tensor in child.parameters()]
    inner += [each for each in layer._parameters.values() if each is not None]
    scales = layer.__dict__.get("scaling")
    return (*((id(each), token(each)) for each in inner), tuple(scales.get(name) for name in names) if isinstance(scales, dict) else None)


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
        self._written: dict[str, tuple[Any, ...]] = {}
        self._factors: dict[tuple[int, str], Factors] = {}
        self._now: dict[str, tuple[str, ...]] = {}
        _, self._prepare = merger(device)
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
            group = Group(layout, torch.empty(layout.nbytes, dtype=torch.uint8, device=device))
            self.groups.append(group)
            self.slots |= {slot.name: (group, slot) for slot in layout.slots}

    def parameter(self, name: str) -> Tensor:
        """What the engine's module binds: a view of the live arena, or the buffer's own copy. Nothing (on the meta device) for codes, which layers of
        their own read."""
        found = self.slots.get(name)
        if self.coded is not None and name in self.coded.names:
            return torch.empty(self.coded.layout.by_name[name].shape, device="meta")
        return self.buffers[name] if found is None else found[1].view(found[0].live)

    @property
    def nbytes(self) -> int:
        """Device memory of the live weights."""
        coded = 0 if self.coded is None else self.coded.live.numel()
        return coded + sum(group.live.numel() for group in self.groups) + sum(each.numel() * each.element_size() for each in self.buffers.values())

    def wish(self, snapshot: Snapshot) -> Wish:
        """What the module would compute with now."""
        for layer in snapshot.tuners.values():
            settle(layer)
        wish = Wish(snapshot.tokens())
        for name, layer in snapshot.tuners.items():
            names = active_adapters(layer)
            if not names:
                continue
            rows = [low_rank(layer, each) for each in names]
            target = f"{name}.weight" if name else "weight"
            slot = self._slot(target)
            fits = slot is not None and all(row is not None and row.up.dtype in CODES and row.up.device == self.device and _fits(row, slot) for row in rows)
            if fits:
                wish.fast[target] = [row for row in rows if row is not None and row.scale != 0]
            else:
                base = layer.get_base_layer()
                wish.slow |= {f"{name}.{key}" if name else key: (layer, names) for key, value in base._parameters.items() if value is not None}
        return wish

    def _slot(self, name: str) -> Slot | None:
        if self.coded is not None and name in self.coded.names:
            return self.coded.layout.by_name[name]
        found = self.slots.get(name)
        return None if found is None else found[1]

    def differs(self, snapshot: Snapshot) -> list[str]:
        """Names of parameters and buffers whose values are not live."""
        wish = self.wish(snapshot)
        return [name for name in snapshot.tensors if self._written.get(name) != wish.of(name)]

    @torch.no_grad()
    def refit(self, snapshot: Snapshot) -> Refit:
        """Writes what differs, and only that. A failure leaves those parameters unknown: they are written by the next refit. Raises what PEFT's
        merge raises, and out-of-memory errors."""
        began = time.perf_counter()
        wish = self.wish(snapshot)
        targets = {name: wish.of(name) for name in snapshot.tensors}
        changed = [name for name, target in targets.items() if self._written.get(name) != target]
        bases = [name for name in changed if name not in self._written or self._written[name][0] != targets[name][0]]
        for name in changed:
            self._written.pop(name, None)
        for name in bases:
            if name in self.buffers:
                self.buffers[name].copy_(snapshot.tensors[name].detach())
        for group in self.groups:
            mine = [self.slots[name][1] for name in changed if name in self.slots and self.slots[name][0] is group]
            if mine:
                self._write(group, mine, wish, snapshot)
        if self.coded is not None:
            for name in changed:
                if name in self.coded.names:
                    self._code(name, wish, snapshot)
        for name in changed:
            self._written[name] = targets[name]
            terms = wish.fast.get(name)
            self._now[name] = wish.slow[name][1] if name in wish.slow else tuple(term.adapter for term in terms or ())
        self._forget(wish)
        adapters = tuple(dict.fromkeys(adapter for names in self._now.values() for adapter in names))
        return Refit(tuple(changed), tuple(bases), adapters, (time.perf_counter() - began) * 1000)

    def unknown(self) -> None:
        """Forgets what is live: the next refit writes everything from the module."""
        self._written.clear()

    def _write(self, group: Group, slots: list[Slot], wish: Wish, snapshot: Snapshot) -> None:
        """Pristine values first, from the module itself; then what adapters add, in place and rounded once."""
        slow = [slot for slot in slots if slot.name in wish.slow]
        copied = [slot for slot in slots if slot.name not in wish.slow]
        if copied:
            torch._foreach_copy_([slot.view(group.live) for slot in copied], [snapshot.tensors[slot.name].detach() for slot in copied])
        fast = [slot for slot in copied if wish.fast.get(slot.name)]
        if fast:
            self._merge(group, fast, wish)
        done: dict[int, dict[str, Tensor]] = {}
        for slot in slow:
            layer, names = wish.slow[slot.name]
            if id(layer) not in done:
                done[id(layer)] = merged_values(layer, names, self.device)
            slot.put(group.live, done[id(layer)][slot.name.rpartition(".")[2]])

    def _code(self, name: str, wish: Wish, snapshot: Snapshot) -> None:
        """One matrix: merged in f32 from the module's own value, coded once."""
        assert self.coded is not None
        slot = self.coded.layout.by_name[name]
        if name in wish.slow:
            layer, names = wish.slow[name]
            value = merged_values(layer, names, self.device)[name.rpartition(".")[2]]
        else:
            value = snapshot.tensors[name].detach().to(self.device, torch.float32, copy=True)
            for term in wish.fast.get(name, ()):
                value.addmm_(term.up.detach().float().reshape(slot.rows, -1), term.down.detach().float().reshape(-1, slot.cols), alpha=term.scale)
        self.coded.put(name, value.reshape(slot.rows, slot.cols))

    def _merge(self, group: Group, slots: list[Slot], wish: Wish) -> None:
        wanted: dict[str, dict[int, LowRank]] = {}
        for slot in slots:
            for term in wish.fast[slot.name]:
                wanted.setdefault(term.adapter, {})[slot.index] = term
        order = _order([[term.adapter for term in wish.fast[slot.name]] for slot in slots])
        stack, buffers = [], []
        for adapter in order:
            terms = wanted[adapter]
            held = self._packed(group, adapter, wish)
            rows = held.rows[np.isin(held.rows["slot"], np.fromiter(terms, np.int64, len(terms)))].copy()
            rows["scale"] = [terms[index].scale for index in rows["slot"].tolist()]
            stack.append((rows, 1.0))
            buffers.append(held.buffer)
        table = build_table(group.layout, stack, slots)
        run = self._prepare(group.layout, table, buffers, self.device, np.zeros(len(table.jobs), np.int64))
        run[0](group.live, group.live)

    def _packed(self, group: Group, adapter: str, wish: Wish) -> Factors:
        """All products of an adapter in this group in one buffer, made anew when a factor changed."""
        terms = [
            (self.slots[name][1], term) for name, terms in wish.fast.items() if name in self.slots and self.slots[name][0] is group for term in terms if term.adapter == adapter
        ]  # fmt: skip
        terms.sort(key=lambda row: row[0].index)
        stamps = tuple((slot.index, id(term.up), token(term.up), id(term.down), token(term.down)) for slot, term in terms)
        key = (id(group), adapter)
        held = self._factors.get(key)
        if held is None or held.stamps != stamps:
            held = self._factors[key] = _pack(terms, stamps, self.device)
        return held

    def _forget(self, wish: Wish) -> None:
        """Factors of adapters that are no longer there; those that are switched off stay while the module holds them."""
        if not any(wish.fast.values()) and len(self._factors) > 4:
            self._factors.clear()


def _fits(term: LowRank, slot: Slot) -> bool:
    rank = term.down.shape[0]
    return rank > 0 and term.up.numel() == slot.rows * rank and term.down.numel() == rank * slot.cols and len(slot.shape) >= 2


def _order(lists: Iterable[list[str]]) -> list[str]:
    """Adapters in the order in which layers list them."""
    return list(dict.fromkeys(name for names in lists for name in names))


def _pack(terms: list[tuple[Slot, LowRank]], stamps: tuple[Any, ...], device: torch.device) -> Factors:
    """Ups of neighbouring matrices lie one behind the other, then downs: a run of equal shapes is one strided batch."""
    rows = np.zeros(len(terms), FAST)
    position, places = 0, []
    for field_ in ("up", "down"):
        for number, (_, term) in enumerate(terms):
            tensor = getattr(term, field_)
            rows[field_][number] = position
            places.append((position, tensor))
            position += (tensor.numel() * tensor.element_size() + ALIGN - 1) // ALIGN * ALIGN
    for number, (slot, term) in enumerate(terms):
        rows[number]["slot"], rows[number]["length"] = slot.index, slot.rows
        rows[number]["rank"], rows[number]["code"] = term.down.shape[0], CODES[term.up.dtype]
    buffer = torch.zeros(position + ALIGN, dtype=torch.uint8, device=device)
    parts = [buffer[begin : begin + each.numel() * each.element_size()].view(each.dtype).view(each.shape) for begin, each in places]
    by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for part, (_, each) in zip(parts, places):
        into, out = by_dtype.setdefault(each.dtype, ([], []))
        into.append(part)
        out.append(each.detach())
    for into, out in by_dtype.values():
        torch._foreach_copy_(into, out)
    return Factors(stamps, buffer, rows)


def _cast(tensor: Tensor, wanted: torch.dtype | None, device: torch.device) -> Tensor:
    kind = wanted if wanted is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device, kind, copy=True)
