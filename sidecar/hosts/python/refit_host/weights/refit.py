"""Two-phase refit of one engine's weights. `prepare` reads, checks and uploads; `commit` only enqueues writes.

Every value is computed from the pristine base, so A -> B -> A is bit-identical whatever happened between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable, Sequence

import torch
from torch import Tensor

from ..failure import HostFailure, expect
from ..files.checkpoint import CheckpointReader
from ..terms.apply import apply_terms
from ..terms.term import Term
from .base import Base, Place
from .image import DeltaImage
from .layout import Layout, Slot
from .merge import Enqueue, merger
from .stream import Ring
from .table import build_table

# f32 working copies that the term evaluator may hold at once, in units of the largest matrix it touches.
WORKING_COPIES = 6
Stack = Sequence[tuple[DeltaImage, float]]


@dataclass(frozen=True)
class Step:
    """What happens once a group of slots can be written: one enqueued merge, then slots for the term evaluator."""

    merge: Enqueue | None
    slow: tuple[Slot, ...]


@dataclass
class Prepared:
    """A refit that can no longer fail for a reason outside the device. `base`: a new checkpoint, already read; None keeps the old."""

    generation: int
    base: Base | None
    reader: CheckpointReader | None
    restore: list[Slot]
    steps: list[Step]
    touched: frozenset[int]
    terms: dict[int, list[tuple[Term, float, DeltaImage, Tensor]]]
    writes: int
    bytes_read: int
    bytes_written: int
    report: dict = field(default_factory=dict)


class Weights:
    """Live weights of one engine and their pristine base. One caller at a time may commit; prepare may run beside steps."""

    def __init__(self, layout: Layout, device: torch.device, ring: Ring, *, merge: str = "auto") -> None:
        self.layout = layout
        self.device = device
        self.ring = ring
        self.live = torch.empty(layout.nbytes, dtype=torch.uint8, device=device)
        self.base: Base | None = None
        self.generation = 0
        self.known = False
        self._touched: frozenset[int] = frozenset()
        self.merge_name, self._prepare_merge = merger(device, merge)

    def load(self, place: Place, reader: CheckpointReader, **options) -> int:
        """First values, or all values again: base and live become the checkpoint's. Returns bytes read."""
        self.known = False
        self.base = None
        self.base, count = Base.load(place, self.layout, reader, self.ring, self.live, **options)
        self._touched, self.known = frozenset(), True
        self.generation += 1
        return count

    def prepare(
        self, stack: Stack, *, reader: CheckpointReader | None = None, stage: bool = False, full: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Prepared:  # fmt: skip
        """Everything that can fail. `reader`: another checkpoint (`stage`: read it now into a second base; else at the commit)."""
        assert self.base is not None
        target: Base | None = None
        count = 0
        if reader is not None and stage:
            target, count = Base.load(self.base.place, self.layout, reader, self.ring, None, cancelled=cancelled)
        everything = full or reader is not None or not self.known
        touched = frozenset(index for image, _ in stack for index in image.every)
        slow = frozenset(index for image, _ in stack for index in image.slow)
        _check_terms(self.layout, stack, slow)
        buffers = self._upload(stack)
        self._reserve(slow)
        stale = range(len(self.layout.slots)) if everything else self._touched - touched
        restore = [self.layout.slots[index] for index in sorted(set(stale) - touched)]
        written = [self.layout.slots[index] for index in sorted(touched)]
        fast = [(image.fast, strength) for image, strength in stack]
        base = target or self.base
        if base.device_arena is None:
            # Not readable by a kernel: every written slot is made pristine first, group by group.
            direct = reader is not None and not stage
            restore = sorted({*restore, *written}, key=lambda slot: slot.index)
            groups = [list(restore)] if direct else base.steps(restore)
        else:
            groups = [written] if written else []
        steps = []
        for group in groups:
            chosen = [slot for slot in group if slot.index in touched and slot.index not in slow]
            merge = self._prepare_merge(self.layout, build_table(self.layout, fast, chosen), buffers, self.device) if chosen else None
            steps.append(Step(merge, tuple(slot for slot in group if slot.index in slow)))
        terms: dict[int, list[tuple[Term, float, DeltaImage, Tensor]]] = {}
        for (image, strength), buffer in zip(stack, buffers):
            for index in slow & image.every.keys():
                terms.setdefault(index, []).extend((term, strength, image, buffer) for term in image.every[index])
        slots = {*restore, *written}
        return Prepared(
            self.generation, target, None if stage else reader, restore, steps, touched, terms, len(slots), count,
            sum(slot.nbytes for slot in slots), {"fast": len(touched - slow), "evaluated": len(slow), "restored": len(slots) - len(touched)},
        )  # fmt: skip

    def _upload(self, stack: Stack) -> list[Tensor]:
        if self.device.type != "cuda":
            return [image.factors for image, _ in stack]
        return [image.factors.to(self.device, non_blocking=True) for image, _ in stack]

    def _reserve(self, slow: frozenset[int]) -> None:
        """Takes and returns the evaluator's working memory, so that want of it shows now and not between two writes."""
        largest = max((self.layout.slots[index].count for index in slow), default=0)
        if self.device.type == "cuda" and largest:
            del_me = torch.empty(largest * 4 * WORKING_COPIES, dtype=torch.uint8, device=self.device)
            del del_me

    def commit(self, prepared: Prepared) -> float:
        """Writes the prepared values; returns ms. A failure here leaves the weights UNKNOWN: the next plan must be a full one."""
        expect(prepared.generation == self.generation, "HOST_GENERATION_STALE", "another refit was committed since this one was prepared")
        assert self.base is not None
        began = time.perf_counter()
        self.known = False
        if prepared.base is not None:
            self.base = prepared.base
        if prepared.reader is not None:
            place = self.base.place
            self.base = None
            self.base, prepared.bytes_read = Base.load(place, self.layout, prepared.reader, self.ring, self.live)
        source = self.base.device_arena
        if source is not None:
            for _ in self.base.restore(self.live, prepared.restore):
                pass
            for step in prepared.steps:
                self._write(step, prepared, source)
        else:
            # A checkpoint read at this commit is already pristine in place.
            ready = iter([None]) if prepared.reader is not None else self.base.restore(self.live, prepared.restore)
            for step, _ in zip(prepared.steps, ready):
                self._write(step, prepared, self.live)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        self._touched, self.known = prepared.touched, True
        self.generation += 1
        return (time.perf_counter() - began) * 1000

    def _write(self, step: Step, prepared: Prepared, source: Tensor) -> None:
        if step.merge is not None:
            step.merge(self.live, source)
        for slot in step.slow:
            rows = prepared.terms[slot.index]
            where = {id(term): (image, buffer) for term, _, image, buffer in rows}
            value = apply_terms(
                slot.get(source).float(), [(term, strength) for term, strength, _, _ in rows],
                lambda term: where[id(term)][0].factors_of(term, where[id(term)][1]),
            )  # fmt: skip
            slot.put(self.live, value)

    def read_back(self, name: str) -> Tensor:
        """A live weight in canonical layout, on the host."""
        slot = self.layout.by_name.get(name)
        if slot is None:
            raise HostFailure("HOST_PARAMETER_UNKNOWN", f"{name}: the engine has no such parameter", {"parameter": name})
        return slot.get(self.live).contiguous().cpu()


def _check_terms(layout: Layout, stack: Stack, slow: frozenset[int]) -> None:
    """Runs the evaluated terms on shapes alone. Raises HOST_SHAPE_MISMATCH or HOST_NOT_REFITTABLE before anything is written."""
    for index in slow:
        slot = layout.slots[index]
        rows = [(term, strength, image) for image, strength in stack for term in image.every.get(index, [])]
        where = {id(term): image for term, _, image in rows}

        def shapes(term: Term) -> dict[str, Tensor]:
            entries = where[id(term)].file.entries
            names = {**term.factors, **({"dora": term.dora} if term.dora else {})}
            return {role: torch.empty(entries[name].shape, device="meta") for role, name in names.items()}

        value = apply_terms(torch.empty(slot.shape, device="meta"), [(term, strength) for term, strength, _ in rows], shapes)
        expect(
            tuple(value.shape) == slot.shape, "HOST_NOT_REFITTABLE",
            f"{slot.name}: the stack changes its shape from {list(slot.shape)} to {list(value.shape)}; another engine is needed",
            parameter=slot.name,
        )  # fmt: skip
