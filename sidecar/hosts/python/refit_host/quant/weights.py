"""Live weights of a quantised engine. Every write merges in f32 beside the live memory and quantises once, so that codes and scales depend on nothing but base and stack:
A -> B -> A gives the same bits. The base is the file's own codes where the file has the engine's format, else bf16.
"""

# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# The base of these weights is a QuantBase in every place where `Weights` has a Base; the two are never mixed.
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..files.checkpoint import CheckpointReader
from ..terms.apply import apply_terms
from ..weights.base import Place
from ..weights.image import DeltaImage
from ..weights.layout import Layout, Slot
from ..weights.loss import Found, LossSums
from ..weights.plan import Stack, run_step
from ..weights.refit import Cancelled, Prepared, Weights
from ..weights.stream import Ring
from ..weights.table import build_table
from .base import QuantBase
from .branch import Branches, Staged, norms_of, products_of
from .encode import has_merge
from .formats import Format
from .rounding import chances
from .stored import Stored
from .ways import USUAL_LIMIT, Steps

# f32 working memory of a write: a few matrices at a time, or the largest alone.
CHUNK_BYTES = 64 << 20
# Adapters whose sizes are remembered.
KEPT_NORMS = 64
Codes = Mapping[int, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Launched:
    """What a commit writes without the working memory: one kernel, and parts that are copied as they are (targets, sources)."""

    launch: Any
    copies: tuple[Sequence[Tensor], Sequence[Tensor]]


class QuantWeights(Weights):
    """`stored`: how `live` is divided. `placed`: the slots in f32, at their place in the working memory of their chunk."""

    joins = False
    base: QuantBase | None

    def __init__(
        self,
        layout: Layout,
        parameters: Iterable[str],
        form: Format,
        device: torch.device,
        ring: Ring,
        *,
        merge: str = "auto",
        way: str = "dequantise",
        rounding: str = "nearest",
    ) -> None:
        """`way`: how a step multiplies (linear.py). `rounding`: of changed values, nearest or stochastic (rounding.py)."""
        self.rounding = rounding
        self.stored = Stored.build(layout, parameters, form)
        self.branches = Branches(form, way, device)
        self._norms: dict[str, dict[int, float]] = {}
        # Of the refit that is being prepared: slots for the kernel, slots for the term evaluator.
        self._for_launch: list[Slot] = []
        self._evaluates: frozenset[int] = frozenset()
        self._steps: Mapping[int, Steps] = {}
        super().__init__(layout, device, ring, merge=merge)
        chunks = _chunks_of(layout)
        self._chunk_of = [number for number, (_, _, inside) in enumerate(chunks) for _ in inside]
        grow = _grow(layout)
        slots = tuple(
            replace(slot, dtype=torch.float32, offset=slot.offset * grow - begin) for begin, _, inside in chunks for slot in inside
        )
        self.placed = Layout(slots, {slot.name: slot for slot in slots}, layout.nbytes * grow)
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
        """(base, live) of every quantised matrix in f32, [rows, cols], turned where the layout says so; each valid until the next."""
        assert self.base is not None
        for _, inside in self._chunks([slot for slot in self.layout.slots if slot.index in self.stored.coded]):
            for slot, value, _ in self.base.each(inside):
                yield value, self.stored.form.decode(self.stored.parts(slot, self.live))

    @property
    def _merged_layout(self) -> Layout:
        return self.placed

    def load(self, place: Place, reader: CheckpointReader, **options) -> int:
        """As `Weights.load`: the base becomes the checkpoint's, and live its codes or its quantised values."""
        base, count = QuantBase.load(place, self.layout, self.stored, reader, self.ring, **options)
        self.adopt(base)
        return count

    def adopt(self, base: QuantBase) -> None:
        """First values, from a base that is there."""
        self.base = base
        self._steps = base.steps
        self._renew()
        self.known = True

    def _renew(self) -> None:
        assert self.base is not None
        for _, slots in self._chunks(self.layout.slots):
            codes = self._fill(self._working, slots, self.base)
            for slot in slots:
                self._put(slot, self._value_of(slot), codes.get(slot.index))

    def _more_device_memory(self) -> list[tuple[Tensor, bool]]:
        return [(self._working, False), *((part, True) for branch in self.branches.held.values() for part in branch)]

    def commit(self, prepared: Prepared) -> float:
        if prepared.base is not None or prepared.reader is not None:
            self._steps = self._next_steps
        return super().commit(prepared)

    def _report(self, prepared: Prepared, beside: Found | None = None) -> list[dict[str, Any]]:
        return super()._report(prepared, prepared.beside.losses.fetch())

    def _next_base(
        self, reader: CheckpointReader | None, stage: bool, cancelled: Cancelled
    ) -> tuple[QuantBase, CheckpointReader | None, np.ndarray, int]:  # fmt: skip
        assert self.base is not None
        self._next_steps = self._steps
        if reader is None:
            return self.base, None, self.base.peaks, 0
        # A base in the file is no memory: it can be another one at once.
        place: Place = "file" if not stage else self.base.place
        base, count = QuantBase.load(place, self.layout, self.stored, reader, self.ring, cancelled=cancelled)
        self._next_steps = base.steps
        later = None if stage or self.base.place == "file" else reader
        return (self.base if later is not None else base), later, base.peaks, count

    def _divide(self, stack: Stack, buffers: Sequence[Tensor], loss: float | None) -> tuple[Stack, Staged]:
        limit = USUAL_LIMIT if loss is None else loss
        merged, products = [], []
        for position, ((image, strength), buffer) in enumerate(zip(stack, buffers)):
            chosen = frozenset(self._branched(image, strength, buffer, limit))
            products += products_of(self.layout, position, image, strength, buffer, chosen)
            merged.append((image.without(chosen), strength))
        return merged, self.branches.stage(products)

    def _branched(self, image: DeltaImage, strength: float, buffer: Tensor, limit: float) -> Iterator[int]:
        """Slots where rounding would swallow more of an adapter than the limit."""
        # By chance nothing is swallowed.
        if not self._next_steps or limit >= 1 or self.rounding != "nearest":
            return
        norms = self._norms.get(image.file.adapter)
        if norms is None:
            norms = self._norms[image.file.adapter] = norms_of(self.layout, image, buffer)
            while len(self._norms) > KEPT_NORMS:
                self._norms.pop(next(iter(self._norms)))
        for index, norm in norms.items():
            steps = self._next_steps.get(index)
            if steps is not None and norm > 0 and strength != 0 and 1 - steps.survives(abs(strength) * norm) > limit:
                yield index

    def _file_base(self, reader: CheckpointReader, peaks: np.ndarray) -> QuantBase:
        return QuantBase("file", self.layout, self.stored, reader, self.ring, None, peaks)

    def _reserve(self, slow: frozenset[int]) -> None:
        self._evaluates = slow
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

    def prepare(self, stack: Stack, **options: Any) -> Prepared:
        """As `Weights.prepare`; what the kernel writes at once is planned apart from what goes through the working memory."""
        prepared = super().prepare(stack, **options)
        prepared.launched = self._launched(prepared)
        return prepared

    def _at_once(self, base: QuantBase, later: CheckpointReader | None) -> bool:
        """Whether one launch can merge and quantise: both sides on the device."""
        nearest = self.rounding == "nearest"
        return (
            nearest
            and self.merge_name == "triton"
            and later is None
            and base.place == "resident"
            and has_merge(self.stored.form.name, self.device)
        )

    def _launched(self, prepared: Prepared) -> "Launched | None":
        slots, self._for_launch = self._for_launch, []
        if not slots:
            return None
        base = prepared.base or self.base
        assert isinstance(base, QuantBase)
        # A matrix that no adapter reaches is a copy where the base is codes, and only has to be rounded where it is not.
        kept = [slot for slot in slots if slot.index not in prepared.touched and slot.index in base.held.coded]
        here = frozenset(slot.index for slot in kept)
        merged = [slot for slot in slots if slot.index not in here]
        copies = (
            [part for slot in kept for part in self.stored.parts(slot, self.live).values()],
            [part for slot in kept for part in base.codes(slot).values()],
        )
        launch = None
        if merged:
            from . import merge_triton

            table = build_table(self.layout, [(image.fast, strength) for image, strength in prepared.stack], merged)
            places = {slot.index: (*base.at(slot), *(begin for begin, _ in self.stored.coded[slot.index])) for slot in merged}
            launch = merge_triton.prepare(self.stored.form, table, places, prepared.factors, self.device)  # pyright: ignore[reportArgumentType]  a coded matrix has two parts
        return Launched(launch, copies)

    def _run(self, launched: "Launched", losses: LossSums) -> None:
        targets, sources = ([part.view(torch.uint8) for part in parts] for parts in launched.copies)
        if targets:
            torch._foreach_copy_(targets, sources)
        if launched.launch is not None:
            from . import merge_triton

            assert self.base is not None and self.base.arena is not None
            merge_triton.run(launched.launch, self.live, self.base.arena)
            losses.note_rows(launched.launch.keys, launched.launch.lost[: len(launched.launch.keys)])

    def _groups(
        self, slots: list[Slot], touched: frozenset[int], base: QuantBase, later: CheckpointReader | None
    ) -> tuple[list[Slot], list[list[Slot]]]:  # fmt: skip
        self._for_launch = []
        if self._at_once(base, later):
            self._for_launch = [slot for slot in slots if slot.index in self.stored.coded and slot.index not in self._evaluates]
            here = frozenset(slot.index for slot in self._for_launch)
            slots = [slot for slot in slots if slot.index not in here]
        return slots, [[self.placed.slots[slot.index] for slot in inside] for _, inside in self._chunks(slots)]

    def _fill(self, working: Tensor, slots: list[Slot], base: QuantBase) -> Codes:
        """Pristine values of slots of one chunk, in f32. Returns the codes of those whose file has the engine's format."""
        codes = {}
        for slot, value, parts in base.each(slots):
            self.placed.slots[slot.index].physical(working).copy_(value)
            if parts is not None:
                codes[slot.index] = parts
        return codes

    def _value_of(self, slot: Slot) -> Tensor:
        return self.placed.slots[slot.index].physical(self._working)

    def _put(self, slot: Slot, value: Tensor, codes: Mapping[str, Tensor] | None) -> None:
        """Stores a pristine value: the file's codes where it has them."""
        if codes is not None:
            self.stored.copy(slot, self.live, codes)
        else:
            self.stored.put(slot, self.live, value)

    def _write(self, prepared: Prepared) -> None:
        assert self.base is not None
        if prepared.reader is not None:
            self._read_again(prepared.reader, None)
        self.branches.commit(prepared.beside)
        losses = prepared.losses
        if prepared.launched is not None:
            self._run(prepared.launched, losses)
        for (_, slots), step in zip(self._chunks(prepared.restore), prepared.steps):
            codes = self._fill(self._working, slots, self.base)
            changing = [slot for slot in slots if slot.index in prepared.touched]
            pristine = {slot.index: self._value_of(slot).clone() for slot in changing if slot.index in self.stored.coded}
            run_step(step, self._working, self._working)
            for slot in slots:
                if slot.index not in pristine:
                    self._put(slot, self._value_of(slot), codes.get(slot.index) if slot.index not in prepared.touched else None)
                    continue
                before = codes.get(slot.index) or self.stored.form.encode(pristine[slot.index])
                chance = self._chance(slot, prepared.stack, pristine[slot.index], self._value_of(slot))
                after = self.stored.change(slot, self.live, self._value_of(slot), before, chance)
                self._note_loss(losses, prepared.stack, prepared.factors, slot, pristine[slot.index], before, after)

    def _chance(self, slot: Slot, stack: Stack, pristine: Tensor, merged: Tensor) -> Tensor | None:
        if self.rounding == "nearest":
            return None
        mine = [(image.file.adapter, strength) for image, strength in stack if slot.index in image.changes]
        return chances(slot.name, mine, merged != pristine)

    def _note_loss(
        self,
        losses: LossSums,
        stack: Stack,
        factors: Sequence[Tensor],
        slot: Slot,
        pristine: Tensor,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
    ) -> None:
        """One adapter intends what was merged; of several, each is applied alone after those before it."""
        decode, merged = self.stored.form.decode, self._value_of(slot)
        error = decode(after) - decode(before) - (merged - pristine)
        mine = [
            (position, image, strength, buffer)
            for position, ((image, strength), buffer) in enumerate(zip(stack, factors))
            if slot.index in image.every
        ]
        rows = [image.rows_of(slot) for _, image, _, _ in mine]
        if len(mine) == 1:
            physical = slice(None) if slot.swap_halves else rows[0]
            losses.note(mine[0][0], slot.index, error[physical], (merged - pristine)[physical])
            return
        here = replace(slot, offset=0, dtype=torch.float32)
        canonical = lambda value: here.get(value.contiguous().view(torch.uint8).flatten())  # noqa: E731
        error, value = canonical(error), canonical(pristine)
        for (position, image, strength, buffer), inside in zip(mine, rows):
            terms = [((term,), strength) for term in image.every[slot.index]]
            changed = apply_terms(value, terms, lambda row, of=image.factors_of, place=buffer: of(row[0], place))
            losses.note(position, slot.index, error[inside], (changed - value)[inside])
            value = changed

    def _read_again(self, reader: CheckpointReader, live: Tensor | None) -> None:
        assert self.base is not None
        old, self.base.arena = self.base.arena, None
        self.base, _ = QuantBase.load(self.base.place, self.layout, self.stored, reader, self.ring, reuse=old)

    def _scratch(self, slots: Sequence[Slot], base: QuantBase) -> Iterator[tuple[Tensor, list[Slot], Layout]]:
        for _, inside in self._chunks(slots):
            # Memory of its own: a commit may use the engine's meanwhile.
            working = torch.empty(self._working.numel(), dtype=torch.uint8, device=self.device)
            self._dry_codes = self._fill(working, inside, base)
            self._dry_pristine = {
                slot.index: self.placed.slots[slot.index].physical(working).clone() for slot in inside if slot.index in self.stored.coded
            }
            yield working, inside, self.placed

    def _settled(self, slot: Slot, here: Slot, scratch: Tensor, stack: Stack) -> Tensor:
        merged = here.physical(scratch)
        if slot.index not in self.stored.coded:
            return here.get(scratch).to(slot.dtype)
        pristine, codes = self._dry_pristine[slot.index], self._dry_codes.get(slot.index)
        if torch.equal(merged, pristine):
            return self.stored.settled(slot, codes or self.stored.form.encode(merged))
        chance = self._chance(slot, stack, pristine, merged)
        return self.stored.settled(slot, self.stored.form.encode(merged, codes or self.stored.form.encode(pristine), chance))

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
