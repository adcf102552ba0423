"""What a refit will do, worked out before anything is written: which slots, in which groups, by which means."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Sequence

import numpy as np
import torch
from torch import Tensor

from ..failure import expect
from ..terms.apply import apply_terms
from ..terms.term import Term
from .image import DeltaImage
from .layout import Layout, Slot
from .loss import LossSums
from .merge import Enqueue, Prepare
from .table import build_table

Stack = Sequence[tuple[DeltaImage, float]]


@dataclass(frozen=True)
class Evaluated:
    """Terms of one parameter that the kernel cannot do, each with its strength, image and factors on the device, and the image's position in the stack."""

    terms: tuple[tuple[Term, float, DeltaImage, Tensor, int], ...]

    def value(self, base: Tensor) -> Tensor:
        """Merged f32 value from the pristine one."""
        return _applied(base.float(), self.terms)

    def note(self, losses: LossSums, slot: Slot, base: Tensor, merged: Tensor, stored: Tensor) -> None:
        """What rounding took of each adapter: alone after those before it."""
        value, error = base.float(), stored.float() - merged
        positions = sorted({row[4] for row in self.terms})
        for position in positions:
            mine = [row for row in self.terms if row[4] == position]
            changed = merged if len(positions) == 1 else _applied(value, mine)
            losses.note(position, slot.index, error, changed - value)
            value = changed


def _applied(value: Tensor, terms: Sequence[tuple[Term, float, DeltaImage, Tensor, int]]) -> Tensor:
    return apply_terms(value, [(row, row[1]) for row in terms], lambda row: row[2].factors_of(row[0], row[3]))


@dataclass(frozen=True)
class Step:
    """What happens once a group of slots can be written: one enqueued merge, then slots for the term evaluator."""

    merge: Enqueue | None
    evaluated: tuple[tuple[Slot, Evaluated], ...] = field(default=())


def signature(layout: Layout, stack: Stack) -> np.ndarray:
    """One number per slot that says which adapters touch it, in which order and strength: equal means that its value stays."""
    out = np.zeros(len(layout.slots), np.uint64)
    for image, strength in stack:
        item = np.uint64(zlib.crc32(f"{image.file.adapter} {strength!r}".encode()) + 1)
        out[image.touched] = out[image.touched] * np.uint64(0x9E3779B97F4A7C15) + item
    return out


def check_terms(layout: Layout, stack: Stack, slow: Sequence[int]) -> None:
    """Runs the evaluated terms on shapes alone. Raises HOST_SHAPE_MISMATCH or HOST_NOT_REFITTABLE before anything is written."""
    for index in slow:
        slot = layout.slots[index]
        rows = [(term, strength, image) for image, strength in stack for term in image.every.get(index, [])]
        for term, _, _ in rows:
            expect(
                term.pad_to is None,
                "HOST_NOT_REFITTABLE",
                f"{slot.name}: an adapter gives it another shape; a live engine cannot (NEEDS_RECOMPILE), `merge` can",
                parameter=slot.name,
            )
        apply_terms(torch.empty(slot.shape, device="meta"), [(row, row[1]) for row in rows], lambda row: _shapes(row[0], row[2]))


def _shapes(term: Term, image: DeltaImage) -> dict[str, Tensor]:
    names = {**term.factors, **({"dora": term.dora} if term.dora else {})}
    return {role: torch.empty(image.file.entries[name].shape, device="meta") for role, name in names.items()}


def plan_steps(
    layout: Layout, groups: Sequence[Sequence[Slot]], stack: Stack, buffers: Sequence[Tensor], slow: frozenset[int], touched: frozenset[int],
    prepare: Prepare, device: torch.device,
) -> list[Step]:  # fmt: skip
    """One step per group of slots; the merges of all groups are planned and uploaded at once. `buffers`: factors of the stack's
    images on the device."""
    group_of = np.full(len(layout.slots), -1, np.int64)
    fast = []
    for number, group in enumerate(groups):
        mine = [slot for slot in group if slot.index in touched and slot.index not in slow]
        group_of[[slot.index for slot in mine]] = number
        fast += mine
    merges: dict[int, Enqueue] = {}
    if fast:
        table = build_table(layout, [(image.fast, strength) for image, strength in stack], fast)
        merges = prepare(layout, table, buffers, device, group_of[table.jobs["slot"]])
    return [
        Step(merges.get(number), tuple((slot, _evaluated(slot, stack, buffers)) for slot in group if slot.index in slow))
        for number, group in enumerate(groups)
    ]


def _evaluated(slot: Slot, stack: Stack, buffers: Sequence[Tensor]) -> Evaluated:
    return Evaluated(
        tuple(
            (term, strength, image, buffer, position)
            for position, ((image, strength), buffer) in enumerate(zip(stack, buffers))
            for term in image.every.get(slot.index, [])
        )
    )


def run_step(step: Step, target: Tensor, source: Tensor, losses: LossSums | None = None) -> None:
    """Enqueues the writes of a step. `source`: pristine values (may be `target`). `losses`: takes what rounding does to each adapter."""
    if step.merge is not None:
        step.merge(target, source, losses)
    for slot, terms in step.evaluated:
        base = slot.get(source)
        merged = terms.value(base)
        # The pristine values may lie where the merged ones go.
        before = base.clone() if losses is not None and source is target else base
        slot.put(target, merged)
        if losses is not None:
            terms.note(losses, slot, before, merged, slot.get(target))
