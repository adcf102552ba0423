"""Weights of an engine that does not fit: some stay on the device, the others live in pinned host memory and are copied per block.

A refit of a streamed block is computed on the device, in the buffer that the block also runs from, and written back to the host.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from ..failure import expect
from ..files.checkpoint import CheckpointReader
from .base import Base, Place
from .host_memory import host_arena
from .layout import Layout, Slot
from .loss import LossSums
from .plan import Step, run_step
from .refit import Prepared, Weights
from .split import BUFFERS, Block, Split
from .stream import Ring


class StreamedWeights(Weights):
    """`live`: the part that stays on the device. `far`: the rest, on the host, arena order. `buffers`: where blocks run."""

    def __init__(self, layout: Layout, split: Split, device: torch.device, ring: Ring, *, merge: str = "auto") -> None:
        self.split = split
        super().__init__(layout, device, ring, merge=merge)
        self.far = host_arena(layout.nbytes - split.near_bytes, device)
        self.buffers = [torch.empty(split.buffer_bytes, dtype=torch.uint8, device=device) for _ in range(BUFFERS)]
        self._lanes = [torch.cuda.Stream(device) for _ in range(BUFFERS)] if device.type == "cuda" else []
        self._block_of = [-1] * len(layout.slots)
        for number, block in enumerate(split.blocks):
            for slot in layout.slots:
                if block.begin <= slot.offset < block.end:
                    self._block_of[slot.index] = number
        slots = tuple(replace(slot, offset=slot.offset - self._begin(slot)) for slot in layout.slots)
        self.placed = Layout(slots, {slot.name: slot for slot in slots}, layout.nbytes)

    def _begin(self, slot: Slot) -> int:
        number = self._block_of[slot.index]
        return 0 if number < 0 else self.split.blocks[number].begin

    def _live_bytes(self) -> int:
        return self.split.near_bytes

    @property
    def _merged_layout(self) -> Layout:
        return self.placed

    def container(self, slot: Slot) -> Tensor:
        """The device memory that a module's view of `placed`'s slot belongs to."""
        number = self._block_of[slot.index]
        return self.live if number < 0 else self.buffers[number % BUFFERS]

    def stored(self, block: Block) -> Tensor:
        """A block's live values on the host."""
        return self.far[block.begin - self.split.near_bytes : block.end - self.split.near_bytes]

    def load(self, place: Place, reader: CheckpointReader, **options) -> int:
        """As `Weights.load`; the base is pinned, because a streamed block is restored from it at every refit."""
        expect(place == "pinned", "HOST_INTERNAL", f"expected a pinned base for streamed weights, got {place}")
        self.base, count = Base.load(place, self.layout, reader, self.ring, None, **options)
        self._make_pristine()
        self.known = True
        return count

    def _make_pristine(self) -> None:
        assert self.base is not None and self.base.arena is not None
        self.live.copy_(self.base.arena[: self.split.near_bytes])
        self.far.copy_(self.base.arena[self.split.near_bytes :])

    def _groups(
        self, slots: list[Slot], touched: frozenset[int], base: Base, later: CheckpointReader | None
    ) -> tuple[list[Slot], list[list[Slot]]]:
        near = base.steps(self._near(slots))
        far = [inside for _, inside in self._far(slots)]
        return slots, [[self.placed.slots[slot.index] for slot in group] for group in (*near, *far)]

    def _near(self, slots: list[Slot]) -> list[Slot]:
        return [slot for slot in slots if self._block_of[slot.index] < 0]

    def _far(self, slots: list[Slot]) -> list[tuple[int, list[Slot]]]:
        """(number of a block, slots of it), blocks without slots left out."""
        inside: dict[int, list[Slot]] = {}
        for slot in slots:
            if self._block_of[slot.index] >= 0:
                inside.setdefault(self._block_of[slot.index], []).append(slot)
        return sorted(inside.items())

    def _write(self, prepared: Prepared) -> None:
        if prepared.reader is not None:
            self._read_again(prepared.reader, None)
        assert self.base is not None
        near, steps, losses = self._near(prepared.restore), iter(prepared.steps), self._losses(prepared)
        near_steps = [next(steps) for _ in self.base.steps(near)]
        far = list(zip(self._far(prepared.restore), steps))
        for lane in self._lanes:
            lane.wait_stream(torch.cuda.current_stream(self.device))
        for step, _ in zip(near_steps, self.base.restore(self.live, near)):
            run_step(step, self.live, self.live, losses)
        for (number, slots), step in far:
            with torch.cuda.stream(self._lanes[number % BUFFERS]) if self._lanes else nullcontext():
                self._write_block(number, slots, step, losses)
        for lane in self._lanes:
            torch.cuda.current_stream(self.device).wait_stream(lane)

    def _write_block(self, number: int, slots: list[Slot], step: Step, losses: LossSums | None) -> None:
        assert self.base is not None and self.base.arena is not None
        block, buffer = self.split.blocks[number], self.buffers[number % BUFFERS]
        home = self.stored(block)
        spans = [(begin - block.begin, end - block.begin) for begin, end, _ in self.layout.ranges(slots)]
        for begin, end in spans:
            buffer[begin:end].copy_(self.base.arena[block.begin + begin : block.begin + end], non_blocking=True)
        run_step(step, buffer, buffer, losses)
        for begin, end in spans:
            home[begin:end].copy_(buffer[begin:end], non_blocking=True)

    def _more_device_memory(self) -> list[tuple[Tensor, bool]]:
        return [(buffer, False) for buffer in self.buffers]

    def value(self, slot: Slot) -> Tensor:
        number = self._block_of[slot.index]
        if number < 0:
            return slot.get(self.live)
        return self.placed.slots[slot.index].get(self.stored(self.split.blocks[number]))
