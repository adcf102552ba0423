"""The pristine base of a quantised engine: the file's own codes where the engine has the same format, else the engine's float dtype.

In: checkpoint files. Out: values in f32, and the codes of no adapter. Never: live memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..files.checkpoint import CheckpointReader, CheckpointSource, ParameterSource
from ..files.storage import Coded
from ..weights.base import Place
from ..weights.host_memory import host_arena
from ..weights.layout import ALIGN, Layout, Slot
from ..weights.peaks import Peaks
from ..weights.stream import Ring, stream
from .formats import Format, Part, parts_of
from .stored import Stored
from .ways import Steps

# Codes of a file that are those of an engine's format.
SAME_CODES = {"fp8": ("scaled", "F8_E4M3"), "int8": ("scaled", "I8"), "nvfp4": ("nvfp4", "U8")}


def file_codes(form: Format, source: CheckpointSource) -> dict[str, int]:
    """Parameters that the file holds in the engine's own format, each with the groups that it turned (0: none)."""
    return {name: turns.pop() for name, parameter in source.parameters.items() if len(turns := _turns(form, parameter)) == 1}


def _turns(form: Format, source: ParameterSource) -> set[int]:
    """Empty unless every piece has the format's codes."""
    same = len(source.shape) == 2 and all(
        piece.storage is not None and (piece.storage.format, piece.dtype) == SAME_CODES[form.name] and piece.storage.column_scale is None for piece in source.pieces
    )  # fmt: skip
    return {piece.storage.rotation for piece in source.pieces if piece.storage is not None} if same else set()


def rotations(form: Format, source: CheckpointSource) -> dict[str, int]:
    """What an engine that is loaded from this checkpoint turns: only int8 is worth it."""
    return {name: turn for name, turn in file_codes(form, source).items() if turn} if form.name == "int8" else {}


@dataclass(frozen=True)
class Held:
    """Where a base's values lie in its arena. `coded`: slots that stay the file's codes, with the place of each part; `floats`: all others, turned where their slot is turned."""

    coded: Mapping[int, tuple[tuple[int, Part], ...]]
    floats: Mapping[int, int]
    nbytes: int

    @staticmethod
    def build(layout: Layout, stored: Stored, source: CheckpointSource) -> "Held":
        coded: dict[int, tuple[tuple[int, Part], ...]] = {}
        floats: dict[int, int] = {}
        offset = 0

        def place(nbytes: int) -> int:
            nonlocal offset
            begin, offset = offset, offset + -(-nbytes // ALIGN) * ALIGN
            return begin

        same = file_codes(stored.form, source)
        for slot in layout.slots:
            if slot.index in stored.coded and not slot.swap_halves and same.get(slot.name) == slot.rotation:
                coded[slot.index] = tuple((place(part.nbytes), part) for part in parts_of(stored.form, slot.rows, slot.cols))
            else:
                floats[slot.index] = place(slot.nbytes)
        return Held(coded, floats, offset)


class QuantBase:
    """`arena`: uint8 of held.nbytes for resident and pinned, None for file. `peaks`: largest magnitude per slot, all finite."""

    def __init__(
        self, place: Place, layout: Layout, stored: Stored, reader: CheckpointReader, ring: Ring, arena: Tensor | None, peaks: np.ndarray
    ) -> None:
        self.place: Place
        self.arena: Tensor | None
        self.place, self.layout, self.stored, self.reader, self.ring, self.arena, self.peaks = (
            place,
            layout,
            stored,
            reader,
            ring,
            arena,
            peaks,
        )
        self.held = Held.build(layout, stored, reader.source)
        # Of the matrices that stay the file's codes.
        self.steps: dict[int, Steps] = {}

    @staticmethod
    def load(
        place: Place, layout: Layout, stored: Stored, reader: CheckpointReader, ring: Ring, *, reuse: Tensor | None = None, **options
    ) -> tuple["QuantBase", int]:  # fmt: skip
        """Reads a checkpoint; returns the base and the bytes read. `reuse`: arena of a base that is given up. Raises HOST_NON_FINITE, HOST_FILE_*, HOST_OUT_OF_MEMORY,
        HOST_CANCELLED. Options: those of `stream`."""
        base = QuantBase(place, layout, stored, reader, ring, None, np.zeros(0, np.float32))
        peaks, nbytes = Peaks(layout), base.held.nbytes
        if place != "file":
            if reuse is not None and reuse.numel() == nbytes:
                base.arena = reuse
            else:
                del reuse
                base.arena = (
                    torch.empty(nbytes, dtype=torch.uint8, device=ring.device) if place == "resident" else host_arena(nbytes, ring.device)
                )

        def put(slot: Slot, value: Tensor) -> None:
            turned = base._turned(slot, value)
            peaks.note(slot, turned)
            if base.arena is not None:
                base.floats(slot).copy_(turned)

        def keep(slot: Slot, value: Coded) -> None:
            if slot.index not in base.held.coded:
                put(slot, value.value().view(slot.shape))
                return
            base.note_steps(slot, value.parts)
            # In the turned domain, where merges happen.
            peaks.note(slot, base.stored.form.decode(value.parts))
            if base.arena is not None:
                for name, part in base.codes(slot).items():
                    part.copy_(value.parts[name])

        count = stream(reader, layout.slots, ring, put, coded=keep, **options)
        base.peaks = peaks.finish()
        return base, count

    def note_steps(self, slot: Slot, parts: Mapping[str, Tensor]) -> None:
        """Of a matrix that stays these codes."""
        self.steps[slot.index] = Steps.of(self.stored.form, parts)

    def floats(self, slot: Slot) -> Tensor:
        """[rows, cols] in the arena, in physical order."""
        assert self.arena is not None
        begin = self.held.floats[slot.index]
        return self.arena[begin : begin + slot.nbytes].view(slot.dtype).view(slot.rows, slot.cols)

    def at(self, slot: Slot) -> tuple[int, int]:
        """Bytes where a matrix's values lie in the arena, and its scales (-1: values are floats)."""
        if slot.index not in self.held.coded:
            return self.held.floats[slot.index], -1
        return self.held.coded[slot.index][0][0], self.held.coded[slot.index][1][0]

    def codes(self, slot: Slot) -> dict[str, Tensor]:
        """The parts of a matrix that stays the file's codes, in the arena."""
        arena = self.arena
        assert arena is not None
        return {
            part.name: arena[begin : begin + part.nbytes].view(part.dtype).view(part.shape) for begin, part in self.held.coded[slot.index]
        }

    @staticmethod
    def _turned(slot: Slot, value: Tensor) -> Tensor:
        """A file's value as the base holds it: [rows, cols], engine float dtype, physical order."""
        memory = torch.empty(slot.nbytes, dtype=torch.uint8, device=value.device)
        here = replace(slot, offset=0)
        here.put(memory, value)
        return here.physical(memory)

    def each(self, slots: Sequence[Slot]) -> Iterator[tuple[Slot, Tensor, Mapping[str, Tensor] | None]]:
        """(slot, values, codes) for each of `slots`, on the device, one by one: values [rows, cols] in f32, physical order; codes of the file in the engine's format, or None."""
        if self.arena is not None:
            for slot in slots:
                if slot.index in self.held.coded:
                    parts = {name: part.to(self.ring.device, non_blocking=True) for name, part in self.codes(slot).items()}
                    yield slot, self.stored.form.decode(parts), parts
                else:
                    yield slot, self.floats(slot).to(self.ring.device, non_blocking=True).float(), None
            return
        found: list[tuple[Slot, Tensor, dict[str, Tensor] | None]] = []

        def put(slot: Slot, value: Tensor) -> None:
            found.append((slot, self._turned(slot, value).float(), None))

        def keep(slot: Slot, value: Coded) -> None:
            if slot.index in self.held.coded:
                parts = {name: part.clone() for name, part in value.parts.items()}
                found.append((slot, self.stored.form.decode(parts), parts))
            else:
                put(slot, value.value().view(slot.shape))

        # A chunk's slots at once: the file is read with several threads.
        stream(self.reader, slots, self.ring, put, coded=keep)
        yield from found

    def value(self, slot: Slot) -> Tensor:
        """One pristine value in canonical order, in the layout's dtype."""
        ((_, value, _),) = self.each([slot])
        memory = value.contiguous().view(torch.uint8).flatten()
        return replace(slot, offset=0, dtype=torch.float32).get(memory).to(slot.dtype)
