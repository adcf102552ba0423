"""The pristine base: what every refit starts from. Three places for it, chosen by budget, same results.

`resident` on the device, `pinned` in host memory, `file` read again from the checkpoint. Values have the engine's dtype, as the
UI itself would load them; a merge reads them, adds in f32 and rounds once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterator, Literal

import numpy as np
import torch
from torch import Tensor

from ..files.checkpoint import CheckpointReader
from .host_memory import host_arena
from .layout import Layout, Slot
from .peaks import Peaks
from .stream import Ring, stream

Place = Literal["resident", "pinned", "file"]
# One copy per step of the pipeline: large enough for full PCIe speed, small enough that merging overlaps with copying.
STEP_BYTES = 192 << 20


class Base:
    """Pristine values of one checkpoint. `arena`: uint8 of layout.nbytes for resident and pinned, None for file.

    `peaks`: largest magnitude per slot, all finite.
    """

    def __init__(self, place: Place, layout: Layout, reader: CheckpointReader, ring: Ring, arena: Tensor | None, peaks: np.ndarray) -> None:
        self.place: Place = place
        self.layout = layout
        self.reader = reader
        self.ring = ring
        self.arena = arena
        self.peaks = peaks
        self._copies = torch.cuda.Stream(ring.device) if place == "pinned" and ring.device.type == "cuda" else None

    @staticmethod
    def load(
        place: Place, layout: Layout, reader: CheckpointReader, ring: Ring, live: Tensor | None, *, reuse: Tensor | None = None, **options
    ) -> tuple["Base", int]:  # fmt: skip
        """Reads a checkpoint into a new base; returns it and the bytes read. `live`: becomes pristine too (required for file).
        `reuse`: arena of a base that is given up (pinning host memory takes seconds, so it is kept).

        Raises HOST_NON_FINITE, HOST_FILE_*, HOST_OUT_OF_MEMORY, HOST_CANCELLED. Options: those of `stream`.
        """
        peaks = Peaks(layout)
        arena = None
        if place == "resident":
            arena = torch.empty(layout.nbytes, dtype=torch.uint8, device=ring.device) if reuse is None else reuse
            count = stream(reader, layout.slots, ring, _into(arena, peaks), **options)
            if live is not None:
                live.copy_(arena)
        elif live is not None:
            count = stream(reader, layout.slots, ring, _into(live, peaks), **options)
            if place == "pinned":
                arena = host_arena(layout.nbytes, ring.device) if reuse is None else reuse
                arena.copy_(live)
        else:
            arena = host_arena(layout.nbytes, ring.device) if reuse is None else reuse
            count = stream(reader, layout.slots, ring, _through_device(arena, ring.device, peaks), **options)
        return Base(place, layout, reader, ring, arena, peaks.finish()), count

    @staticmethod
    def scan(layout: Layout, reader: CheckpointReader, ring: Ring, **options) -> tuple[np.ndarray, int]:
        """Reads a checkpoint for its peaks alone: proves that a later load cannot fail for what the file holds."""
        peaks = Peaks(layout)
        count = stream(reader, layout.slots, ring, lambda slot, value: peaks.note(slot, value.to(slot.dtype)), **options)
        return peaks.finish(), count

    @property
    def device_arena(self) -> Tensor | None:
        """The base as a kernel on the device can read it; None when it must be restored into place first."""
        return self.arena if self.place == "resident" else None

    def steps(self, slots: list[Slot]) -> list[list[Slot]]:
        """How `restore` will group `slots`: known beforehand, so that each group's merge can be prepared."""
        if not slots:
            return []
        if self.place == "pinned":
            return [inside for _, _, inside in self.layout.ranges(slots, STEP_BYTES)]
        return [list(slots)]

    def restore(self, live: Tensor, slots: list[Slot]) -> Iterator[None]:
        """Makes `slots` of `live` pristine. Yields once per group of `steps(slots)`, when that group is in place for whatever the
        current stream does next."""
        if not slots:
            return
        if self.arena is None:
            stream(self.reader, slots, self.ring, lambda slot, value: slot.put(live, value))
            yield
        elif self.place == "resident":
            for begin, end, _ in self.layout.ranges(slots):
                live[begin:end].copy_(self.arena[begin:end])
            yield
        else:
            yield from self._restore_overlapped(live, slots)

    def _restore_overlapped(self, live: Tensor, slots: list[Slot]) -> Iterator[None]:
        assert self.arena is not None
        ranges = self.layout.ranges(slots, STEP_BYTES)
        if self._copies is None:
            for begin, end, _ in ranges:
                live[begin:end].copy_(self.arena[begin:end])
                yield
            return
        current = torch.cuda.current_stream(live.device)
        self._copies.wait_stream(current)
        marks = []
        with torch.cuda.stream(self._copies):
            for begin, end, _ in ranges:
                live[begin:end].copy_(self.arena[begin:end], non_blocking=True)
                marks.append(self._copies.record_event())
        for mark in marks:
            current.wait_event(mark)
            yield

    def fill(self, scratch: Tensor, begin: int, slots: list[Slot]) -> None:
        """Pristine values of neighbouring `slots` into `scratch`, whose first byte stands for arena position `begin`."""
        if self.arena is not None:
            scratch.copy_(self.arena[begin : begin + scratch.numel()])
        else:
            stream(self.reader, slots, self.ring, lambda slot, value: replace(slot, offset=slot.offset - begin).put(scratch, value))


def _into(arena: Tensor, peaks: Peaks) -> Callable[[Slot, Tensor], None]:
    def put(slot: Slot, value: Tensor) -> None:
        slot.put(arena, value)
        peaks.note(slot, slot.physical(arena))

    return put


def _through_device(arena: Tensor, device: torch.device, peaks: Peaks) -> Callable[[Slot, Tensor], None]:
    """Converts on the device, lands in host memory: a base for later, while the live weights still serve."""

    def put(slot: Slot, value: Tensor) -> None:
        staged = torch.empty(slot.nbytes, dtype=torch.uint8, device=device)
        here = replace(slot, offset=0)
        here.put(staged, value)
        peaks.note(slot, here.physical(staged))
        arena[slot.offset : slot.offset + slot.nbytes].copy_(staged, non_blocking=True)

    return put
