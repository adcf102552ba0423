"""Live weights of a quantised engine. The base has the engine's float dtype; every write merges in f32 beside the live memory and
quantises once, so that codes and scales depend on nothing but base and stack: A -> B -> A gives the same bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..files.checkpoint import CheckpointReader
from ..weights.base import Base, Place
from ..weights.layout import Layout, Slot
from ..weights.plan import run_step
from ..weights.refit import Cancelled, Prepared, Weights
from ..weights.stream import Ring, stream
from .formats import Format
from .stored import Stored

# f32 working memory of a write: a few matrices at a time, or the largest alone.
CHUNK_BYTES = 64 << 20


class QuantWeights(Weights):
    """`stored`: how `live` is divided. `placed`: the slots in f32, at their place in the working memory of their chunk."""

    def __init__(self, layout: Layout, parameters: Iterable[str], form: Format, device: torch.device, ring: Ring, *, merge: str = "auto") -> None:
        self.stored = Stored.build(layout, parameters, form)
        super().__init__(layout, device, ring, merge=merge)
        self._grow = _grow(layout)
        chunks = _chunks_of(layout)
        self._chunk_of = [number for number, (_, _, inside) in enumerate(chunks) for _ in inside]
        self._begins = [begin for begin, _, _ in chunks]
        slots = tuple(
            replace(slot, dtype=torch.float32, offset=slot.offset * self._grow - begin) for begin, _, inside in chunks for slot in inside
        )
        self.placed = Layout(slots, {slot.name: slot for slot in slots}, layout.nbytes * self._grow)
        self._working = torch.empty(_working_bytes(chunks), dtype=torch.uint8, device=device)

    @staticmethod
    def needed_bytes(layout: Layout, parameters: Iterable[str], form: Format) -> int:
        """Device memory of the live weights and of the memory in which refits work."""
        return Stored.build(layout, parameters, form).nbytes + 3 * _working_bytes(_chunks_of(layout))

    def _live_bytes(self) -> int:
        return self.stored.nbytes

    @property
    def weight_bytes(self) -> int:
        return self.stored.nbytes

    @property
    def streamed_bytes(self) -> int:
        return 0

    def coded_values(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(base, live) of every quantised matrix in f32, [rows, cols]; each valid until the next."""
        assert self.base is not None
        for working, slots, _ in self._scratch([slot for slot in self.layout.slots if slot.index in self.stored.coded], self.base):
            for slot in slots:
                yield self.placed.slots[slot.index].physical(working), self.stored.form.decode(self.stored.parts(slot, self.live))

    @property
    def _merged_layout(self) -> Layout:
        return self.placed

    def load(self, place: Place, reader: CheckpointReader, **options) -> int:
        """As `Weights.load`: the base becomes the checkpoint's, and live its quantised values."""
        if place == "file":
            peaks, count = Base.scan(self.layout, reader, self.ring, **options)
            self.adopt(Base(place, self.layout, reader, self.ring, None, peaks))
        else:
            base, count = Base.load(place, self.layout, reader, self.ring, None, **options)
            self.adopt(base)
        return count

    def adopt(self, base: Base) -> None:
        """First values, from a base that is there."""
        self.base = base
        self._renew()
        self.known = True

    def _renew(self) -> None:
        for _, slots in self._chunks(self.layout.slots):
            self._fill(self._working, slots, self.base)
            self._put(slots)

    def _more_device_memory(self) -> list[tuple[Tensor, bool]]:
        return [(self._working, False)]

    def _next_base(self, reader: CheckpointReader | None, stage: bool, cancelled: Cancelled) -> tuple[Base, CheckpointReader | None, np.ndarray, int]:
        base, later, peaks, count = super()._next_base(reader, stage, cancelled)
        if later is not None and base.place == "file":
            # Such a base is no memory: it can be another one at once.
            return Base("file", self.layout, later, self.ring, None, peaks), None, peaks, count
        return base, later, peaks, count

    def _reserve(self, slow: frozenset[int]) -> None:
        super()._reserve(slow)
        if self.device.type == "cuda":
            # What quantising a chunk needs besides the chunk.
            torch.empty(2 * self._working.numel(), dtype=torch.uint8, device=self.device)

    def _chunks(self, slots: Sequence[Slot]) -> list[tuple[int, list[Slot]]]:
        """(number of a chunk, slots of it), chunks without slots left out."""
        inside: dict[int, list[Slot]] = {}
        for slot in slots:
            inside.setdefault(self._chunk_of[slot.index], []).append(slot)
        return sorted(inside.items())

    def _groups(
        self, slots: list[Slot], touched: frozenset[int], base: Base, later: CheckpointReader | None
    ) -> tuple[list[Slot], list[list[Slot]]]:  # fmt: skip
        return slots, [[self.placed.slots[slot.index] for slot in inside] for _, inside in self._chunks(slots)]

    def _fill(self, working: Tensor, slots: list[Slot], base: Base) -> None:
        """Pristine values of slots of one chunk, in f32."""
        if base.arena is None:
            stream(base.reader, slots, self.ring, lambda slot, value: self.placed.slots[slot.index].put(working, value.to(slot.dtype)))
            return
        chunk = self._begins[self._chunk_of[slots[0].index]]
        for begin, end, inside in self.layout.ranges(slots):
            source = base.arena[begin:end].view(inside[0].dtype).to(self.device, non_blocking=True)
            place = begin * self._grow - chunk
            working[place : place + source.numel() * 4].view(torch.float32).copy_(source)

    def _put(self, slots: list[Slot]) -> None:
        for slot in slots:
            self.stored.put(slot, self.live, self.placed.slots[slot.index].physical(self._working))

    def _write(self, prepared: Prepared) -> None:
        if prepared.reader is not None:
            self._read_again(prepared.reader, None)
        for (_, slots), step in zip(self._chunks(prepared.restore), prepared.steps):
            self._fill(self._working, slots, self.base)
            run_step(step, self._working, self._working)
            self._put(slots)

    def _scratch(self, slots: Sequence[Slot], base: Base) -> Iterator[tuple[Tensor, list[Slot], Layout]]:
        for _, inside in self._chunks(slots):
            # Memory of its own: a commit may use the engine's meanwhile.
            working = torch.empty(self._working.numel(), dtype=torch.uint8, device=self.device)
            self._fill(working, inside, base)
            yield working, inside, self.placed

    def _settled(self, slot: Slot, merged: Tensor) -> Tensor:
        return self.stored.settled(slot, merged)

    def value(self, slot: Slot) -> Tensor:
        """A quantised weight as a step uses it, in the engine's float dtype."""
        return self.stored.value(slot, self.live)


def _grow(layout: Layout) -> int:
    """Offsets grow with the element, so that a range of the base is one range of the working memory."""
    return torch.float32.itemsize // layout.slots[0].dtype.itemsize if layout.slots else 1


def _chunks_of(layout: Layout) -> list[tuple[int, int, list[Slot]]]:
    """Neighbouring slots that share the working memory: (begin, end, slots) with offsets grown."""
    grow = _grow(layout)
    out: list[tuple[int, int, list[Slot]]] = []
    for slot in layout.slots:
        begin, end = slot.offset * grow, (slot.offset + slot.nbytes) * grow
        if out and end - out[-1][0] <= CHUNK_BYTES:
            out[-1] = (out[-1][0], end, [*out[-1][2], slot])
        else:
            out.append((begin, end, [slot]))
    return out


def _working_bytes(chunks: list[tuple[int, int, list[Slot]]]) -> int:
    return max((end - begin for begin, end, _ in chunks), default=0)
