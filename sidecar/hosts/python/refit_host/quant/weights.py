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
        # Offsets grow with the element, so that a range of the base is one range of the working memory.
        self._grow = torch.float32.itemsize // layout.slots[0].dtype.itemsize if layout.slots else 1
        self._chunk_of: list[int] = []
        begins: list[int] = []
        ends: list[int] = []
        slots = []
        for slot in layout.slots:
            begin, end = slot.offset * self._grow, slot.offset * self._grow + slot.count * 4
            if not begins or end - begins[-1] > CHUNK_BYTES:
                begins.append(begin)
                ends.append(end)
            ends[-1] = end
            self._chunk_of.append(len(begins) - 1)
            slots.append(replace(slot, dtype=torch.float32, offset=begin - begins[-1]))
        self._begins = begins
        self.placed = Layout(tuple(slots), {slot.name: slot for slot in slots}, layout.nbytes * self._grow)
        self._working_bytes = max((end - begin for begin, end in zip(begins, ends)), default=0)
        self._working = torch.empty(self._working_bytes, dtype=torch.uint8, device=device)

    def _live_bytes(self) -> int:
        return self.stored.nbytes

    @property
    def weight_bytes(self) -> int:
        return self.stored.nbytes

    @property
    def _merged_layout(self) -> Layout:
        return self.placed

    def load(self, place: Place, reader: CheckpointReader, **options) -> int:
        """As `Weights.load`: the base becomes the checkpoint's, and live its quantised values."""
        if place == "file":
            peaks, count = Base.scan(self.layout, reader, self.ring, **options)
            self.base = Base(place, self.layout, reader, self.ring, None, peaks)
        else:
            self.base, count = Base.load(place, self.layout, reader, self.ring, None, **options)
        for _, slots in self._chunks(self.layout.slots):
            self._fill(self._working, slots, self.base)
            self._put(slots)
        self.known = True
        return count

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
            torch.empty(2 * self._working_bytes, dtype=torch.uint8, device=self.device)

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
            working = torch.empty(self._working_bytes, dtype=torch.uint8, device=self.device)
            self._fill(working, inside, base)
            yield working, inside, self.placed

    def _settled(self, slot: Slot, merged: Tensor) -> Tensor:
        return self.stored.settled(slot, merged)

    def value(self, slot: Slot) -> Tensor:
        """A quantised weight as a step uses it, in the engine's float dtype."""
        return self.stored.value(slot, self.live)
