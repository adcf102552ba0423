"""The pristine base: what every refit starts from. Three places for it, chosen by budget, same results.

`resident` on the device, `pinned` in host memory, `file` read again from the checkpoint. Values have the engine's dtype, as the
UI itself would load them; a merge reads them, adds in f32 and rounds once.
"""

from __future__ import annotations

from typing import Callable, Iterator, Literal

import torch
from torch import Tensor

from ..files.checkpoint import CheckpointReader
from .host_memory import host_arena
from .layout import Layout, Slot
from .stream import Ring, stream

Place = Literal["resident", "pinned", "file"]
# One copy per step of the pipeline: large enough for full PCIe speed, small enough that merging overlaps with copying.
STEP_BYTES = 192 << 20
Quiet = Callable[[], bool]


class Base:
    """Pristine values of one checkpoint. `arena`: uint8 of layout.nbytes for resident and pinned, None for file."""

    def __init__(self, place: Place, layout: Layout, reader: CheckpointReader, ring: Ring, arena: Tensor | None) -> None:
        self.place = place
        self.layout = layout
        self.reader = reader
        self._ring = ring
        self.arena = arena
        self._copies = torch.cuda.Stream(ring.device) if place == "pinned" and ring.device.type == "cuda" else None

    @staticmethod
    def load(
        place: Place, layout: Layout, reader: CheckpointReader, ring: Ring, live: Tensor | None,
        *, cancelled: Quiet = lambda: False, progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple["Base", int]:  # fmt: skip
        """Reads a checkpoint into a new base; returns it and the bytes read. `live`: also becomes pristine (required for file,
        and for pinned it saves a second trip)."""
        if place == "resident":
            arena = torch.empty(layout.nbytes, dtype=torch.uint8, device=ring.device)
            count = stream(reader, layout.slots, ring, lambda slot, value: slot.put(arena, value), cancelled=cancelled, progress=progress)
            if live is not None:
                live.copy_(arena)
            return Base(place, layout, reader, ring, arena), count
        if place == "file":
            assert live is not None
            count = stream(reader, layout.slots, ring, lambda slot, value: slot.put(live, value), cancelled=cancelled, progress=progress)
            return Base(place, layout, reader, ring, None), count
        arena = host_arena(layout.nbytes, ring.device)
        if live is not None:
            count = stream(reader, layout.slots, ring, lambda slot, value: slot.put(live, value), cancelled=cancelled, progress=progress)
            arena.copy_(live)
        else:
            count = stream(reader, layout.slots, ring, _through_device(arena, ring.device), cancelled=cancelled, progress=progress)
        return Base(place, layout, reader, ring, arena), count

    @property
    def device_arena(self) -> Tensor | None:
        """The base as something a kernel on the engine's device can read; None when it must be restored into the live weights first."""
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
            stream(self.reader, slots, self._ring, lambda slot, value: slot.put(live, value))
            yield
        elif self._copies is None:
            for begin, end, _ in self.layout.ranges(slots, STEP_BYTES if self.place == "pinned" else None):
                live[begin:end].copy_(self.arena[begin:end])
                if self.place == "pinned":
                    yield
            if self.place == "resident":
                yield
        else:
            yield from self._restore_overlapped(live, slots, self._copies)

    def _restore_overlapped(self, live: Tensor, slots: list[Slot], copies: torch.cuda.Stream) -> Iterator[None]:
        assert self.arena is not None
        current = torch.cuda.current_stream(live.device)
        copies.wait_stream(current)
        marks = []
        with torch.cuda.stream(copies):
            for begin, end, _ in self.layout.ranges(slots, STEP_BYTES):
                live[begin:end].copy_(self.arena[begin:end], non_blocking=True)
                marks.append(copies.record_event())
        for mark in marks:
            current.wait_event(mark)
            yield


def _through_device(arena: Tensor, device: torch.device) -> Callable[[Slot, Tensor], None]:
    """Converts on the device, lands in host memory: a base for later, while the live weights still serve."""

    def put(slot: Slot, value: Tensor) -> None:
        staged = torch.empty(slot.nbytes, dtype=torch.uint8, device=device)
        Slot(0, slot.name, slot.shape, slot.dtype, 0, slot.channels_last, slot.swap_halves).put(staged, value)
        arena[slot.offset : slot.offset + slot.nbytes].copy_(staged, non_blocking=True)

    return put
