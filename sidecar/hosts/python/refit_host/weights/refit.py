"""Two-phase refit of one engine's weights. `prepare` reads, checks and uploads; `commit` only enqueues writes.

Every value is computed from the pristine base, so A -> B -> A is bit-identical whatever happened between.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..failure import HostFailure, expect
from ..files.checkpoint import CheckpointReader
from .base import STEP_BYTES, Base, Place
from .digests import Digests, on_host
from .factors import FactorCache, kept_on
from .layout import Layout, Slot
from .loss import Found, Ledger, LossSums, report
from .merge import merger
from .offload import Away, bring_back, send_away
from .peaks import finite_limit, peak
from .plan import Stack, Step, check_terms, plan_steps, run_step, signature
from .stream import Ring
from .writes import Writes

# f32 working copies that the term evaluator may hold at once, in units of the largest matrix it touches.
WORKING_COPIES = 6
Cancelled = Callable[[], bool]
_numbers = itertools.count()


@dataclass
class Prepared:
    """A refit that can no longer fail for what a file holds. `base`: another checkpoint, read already; `reader`: one to be read
    at the commit, because a second base does not fit. `factors`: those of the stack, on the device; a merge may know no more of them
    than their addresses, so they stay until the commit is through. `stack`: what is merged into `touched`, of `every` adapter; `written`: all slots that get another value;
    `beside`: what stays a branch; `losses`: what the commit finds that rounding lost."""

    base: Base | None
    reader: CheckpointReader | None
    restore: list[Slot]
    steps: list[Step]
    signature: np.ndarray
    writes: int
    bytes_read: int
    bytes_written: int
    factors: Sequence[Tensor]
    sha256: dict[str, str]
    asked: np.ndarray
    stack: Stack
    every: Stack
    touched: frozenset[int]
    written: np.ndarray
    beside: Any
    losses: LossSums = field(default_factory=LossSums)
    # Of a quantised engine: what its kernel writes (quant/weights.py).
    launched: Any = None


class Weights:
    """Live weights of one engine and their pristine base. One caller at a time may commit; prepare may run beside steps."""

    #: Whether the merge can multiply two products element by element (LoHa).
    joins = True

    def __init__(self, layout: Layout, device: torch.device, ring: Ring, *, merge: str = "auto") -> None:
        # No other weights of this process have it, also when these are gone: images of adapters are kept for it.
        self.number = next(_numbers)
        self.layout = layout
        self.device = device
        self.ring = ring
        self.live = torch.empty(self._live_bytes(), dtype=torch.uint8, device=device)
        self.base: Base | None = None
        self.writes = Writes()
        # False from the first write of a commit to its last: weights of no stack.
        self.known = False
        # Of what is merged, and of the whole stack with what stays beside the products.
        self._signature = np.zeros(len(layout.slots), np.uint64)
        self._asked = np.zeros(len(layout.slots), np.uint64)
        # What was lost of each adapter of the present stack (loss.py).
        self.losses: list[dict[str, Any]] = []
        self._ledger = Ledger()
        self._away: list[Away] = []
        self._factors = FactorCache(lambda source: source.to(device, non_blocking=True), kept_on(device))
        self.merge_name, self._prepare_merge = merger(device, merge)

    def _live_bytes(self) -> int:
        return self.layout.nbytes

    def load(self, place: Place, reader: CheckpointReader, **options) -> int:
        """First values: base and live become the checkpoint's. Returns bytes read."""
        self.base, count = Base.load(place, self.layout, reader, self.ring, self.live, **options)
        self.known = True
        return count

    def prepare(
        self, stack: Stack, *, writes: Iterable[int] | None = None, reader: CheckpointReader | None = None, stage: bool = False,
        full: bool = False, verify: bool = False, cancelled: Cancelled = lambda: False, free: Callable[[], int] | None = None, loss: float | None = None,
    ) -> Prepared:  # fmt: skip
        """Everything that can fail. `writes`: slots that the plan lists (None: those that change). `reader`: another checkpoint,
        with `stage` read now into a second base, else at the commit. `free`: device memory that could be allocated now, where factors may stay
        on the device for the next refits. `loss`: the largest share of an adapter's change that rounding may swallow (None: the usual). Raises HostFailure; nothing live has
        changed then."""
        assert self.base is not None
        everything = full or reader is not None or not self.known
        asked = signature(self.layout, stack)
        touching = np.arange(len(self.layout.slots)) if everything else np.flatnonzero(asked != self._asked)
        planned = frozenset(touching.tolist() if writes is None else writes)
        lacking = sorted(frozenset(touching.tolist()) - planned)
        expect(
            not lacking,
            "HOST_PLAN_INVALID",
            f"expected a plan that writes {self.layout.slots[lacking[0]].name if lacking else ''}, which the change of stack touches",
        )
        every = stack
        check_terms(self.layout, every, sorted(frozenset(index for image, _ in every for index in image.slow) & planned))
        base, later, peaks, count = self._next_base(reader, stage, cancelled)
        buffers = [self._factors.get(image.factors, free) for image, _ in stack]
        stack, beside = self._divide(stack, buffers, loss)
        target = signature(self.layout, stack)
        if not everything:
            # A way that an adapter goes may change without the stack.
            changing = frozenset(np.flatnonzero(target != self._signature).tolist())
            planned = changing if beside is not None else planned
        touched = planned.intersection(frozenset().union(*(image.changes for image, _ in stack)))
        slow = frozenset(index for image, _ in stack for index in image.slow) & touched
        self._reserve(slow)
        ordered = sorted(planned)
        slots = [self.layout.slots[index] for index in ordered]
        parts = (stack, buffers, slow, touched, self._prepare_merge, self.device)
        doubtful = self._doubtful(slots, stack, peaks, touched, slow)
        sha256 = self._dry_run(slots if verify else doubtful, base, later, parts, verify, cancelled)
        restore, groups = self._groups(slots, touched, base, later)
        steps = plan_steps(self._merged_layout, groups, *parts)
        return Prepared(
            None if base is self.base else base, later, restore, steps, target, len(slots), count, int(self.layout.sizes[ordered].sum()), buffers, sha256, asked, stack,
            every, touched, np.array(ordered, np.int64), beside,
        )  # fmt: skip

    def _divide(self, stack: Stack, buffers: Sequence[Tensor], loss: float | None) -> tuple[Stack, Any]:
        """What is merged, and what stays beside the products (None: this engine has no branches)."""
        return stack, None

    @property
    def _merged_layout(self) -> Layout:
        """Where a step's merges find the slots."""
        return self.layout

    def _groups(
        self, slots: list[Slot], touched: frozenset[int], base: Base, later: CheckpointReader | None
    ) -> tuple[list[Slot], list[list[Slot]]]:
        """Slots to make pristine in place, and the groups in which slots are merged."""
        if later is not None:
            return slots, [slots]
        if base.device_arena is not None:
            return [slot for slot in slots if slot.index not in touched], [[slot for slot in slots if slot.index in touched]]
        # No kernel can read the base: every slot is made pristine in place first, group by group.
        return slots, base.steps(slots)

    def _next_base(
        self, reader: CheckpointReader | None, stage: bool, cancelled: Cancelled
    ) -> tuple[Base, CheckpointReader | None, np.ndarray, int]:
        assert self.base is not None
        if reader is None:
            return self.base, None, self.base.peaks, 0
        if stage:
            staged, count = Base.load(self.base.place, self.layout, reader, self.ring, None, cancelled=cancelled)
            return staged, None, staged.peaks, count
        peaks, count = Base.scan(self.layout, reader, self.ring, cancelled=cancelled)
        return self.base, reader, peaks, count

    def _reserve(self, slow: frozenset[int]) -> None:
        """Takes and returns the evaluator's working memory, so that want of it shows now and not between two writes."""
        largest = max((self.layout.slots[index].count for index in slow), default=0)
        if self.device.type == "cuda" and largest:
            torch.empty(largest * 4 * WORKING_COPIES, dtype=torch.uint8, device=self.device)

    def _doubtful(
        self, slots: Sequence[Slot], stack: Stack, peaks: np.ndarray, touched: frozenset[int], slow: frozenset[int]
    ) -> list[Slot]:
        """Slots whose merged values are not finite for certain: those the evaluator does, and those whose bound is too large."""
        bounds = peaks.astype(np.float64)
        for image, strength in stack:
            np.add.at(bounds, image.fast["slot"], np.abs(strength * image.fast["scale"]) * image.fast["peak"])
        unsure = ~(bounds < finite_limit(self.layout.slots[0].dtype)) if self.layout.slots else bounds > 0
        if not slow and not unsure.any():
            return []
        return [slot for slot in slots if slot.index in slow or (unsure[slot.index] and slot.index in touched)]

    def _dry_run(
        self, slots: Sequence[Slot], base: Base, later: CheckpointReader | None, parts: tuple, verify: bool, cancelled: Cancelled
    ) -> dict[str, str]:
        """Computes slots beside the live weights: proves that they stay finite; with `verify` their checksums."""
        if not slots:
            return {}
        source = base if later is None else self._file_base(later, base.peaks)
        with Digests() as digests:
            self._compute_beside(slots, source, parts, digests if verify else None, cancelled)
            return digests.by_name()

    def _compute_beside(self, slots: Sequence[Slot], source: Base, parts: tuple, digests: Digests | None, cancelled: Cancelled) -> None:
        overflowed: list[tuple[Slot, int]] = []
        for scratch, inside, shifted in self._scratch(slots, source):
            expect(not cancelled(), "HOST_CANCELLED", "the refit was cancelled while it was prepared; nothing live was changed")
            (step,) = plan_steps(shifted, [[shifted.slots[slot.index] for slot in inside]], *parts)
            run_step(step, scratch, scratch)
            for slot in inside:
                here = shifted.slots[slot.index]
                value = here.physical(scratch)
                if not torch.isfinite(peak(value)):
                    overflowed.append((slot, int(value.numel() - torch.isfinite(value).sum())))
                elif digests is not None:
                    digests.add(slot.name, self._settled(slot, here, scratch, parts[0]))
        if overflowed:
            raise not_finite(overflowed)

    def _file_base(self, reader: CheckpointReader, peaks: np.ndarray) -> Base:
        """A base that is read at the commit, as a dry run reads it."""
        return Base("file", self.layout, reader, self.ring, None, peaks)

    def _settled(self, slot: Slot, here: Slot, scratch: Tensor, stack: Stack) -> Tensor:
        """What `value` will give once a value of the scratch memory (there at `here`) is committed. `stack`: what was merged into it."""
        return here.get(scratch)

    def _scratch(self, slots: Sequence[Slot], base: Base) -> Iterator[tuple[Tensor, list[Slot], Layout]]:
        for begin, end, inside in self.layout.ranges(list(slots), STEP_BYTES):
            scratch = torch.empty(end - begin, dtype=torch.uint8, device=self.device)
            base.fill(scratch, begin, inside)
            yield scratch, inside, self.layout.shifted(begin)

    def commit(self, prepared: Prepared) -> float:
        """Writes the prepared values; returns ms. A failure here leaves `known` false: the next plan must be a full one."""
        assert self.base is not None
        began = time.perf_counter()
        with self.writes.writing():
            self.known = False
            if prepared.base is not None:
                self.base = prepared.base
            self._write(prepared)
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
            self._signature, self._asked, self.known = prepared.signature, prepared.asked, True
        self.losses = self._report(prepared)
        return (time.perf_counter() - began) * 1000

    def _report(self, prepared: Prepared, beside: Found | None = None) -> list[dict[str, Any]]:
        """`beside`: of adapters that stay beside the products."""
        adapters = [image.file.adapter for image, _ in prepared.every]
        merged = self._ledger.update(adapters, prepared.written, prepared.losses.fetch())
        return report(self.layout, adapters, merged, beside or Found.none())

    def _losses(self, prepared: Prepared) -> LossSums | None:
        """Where the writes of a commit note what they lose; f32 rounds nothing that a report would show."""
        rounds = any(slot.dtype != torch.float32 for slot in self.layout.slots[:1])
        return prepared.losses if rounds else None

    def _write(self, prepared: Prepared) -> None:
        """Enqueues every write of a commit."""
        losses = self._losses(prepared)
        if prepared.reader is not None:
            self._read_again(prepared.reader, self.live)
            for step in prepared.steps:
                run_step(step, self.live, self.live, losses)
            return
        assert self.base is not None
        source = self.base.device_arena
        if source is not None:
            for _ in self.base.restore(self.live, prepared.restore):
                pass
            for step in prepared.steps:
                run_step(step, self.live, source, losses)
        else:
            for step, _ in zip(prepared.steps, self.base.restore(self.live, prepared.restore)):
                run_step(step, self.live, self.live, losses)

    def _read_again(self, reader: CheckpointReader, live: Tensor | None) -> None:
        """The base becomes another checkpoint's, in the memory of the one before."""
        assert self.base is not None
        old, self.base.arena = self.base.arena, None
        self.base, _ = Base.load(self.base.place, self.layout, reader, self.ring, live, reuse=old)

    @property
    def weight_bytes(self) -> int:
        """What the live values take, wherever they are."""
        return sum(slot.nbytes for slot in self.layout.slots)

    @property
    def device_bytes(self) -> int:
        """Device memory that weights and base hold now."""
        assert self.base is not None
        base = [self.base.arena] if self.base.arena is not None and self.base.place == "resident" else []
        return sum(
            tensor.untyped_storage().nbytes() for tensor in (self.live, *(tensor for tensor, _ in self._more_device_memory()), *base)
        )

    @property
    def streamed_bytes(self) -> int:
        """Live weights that are copied to the device for every step."""
        return self.layout.nbytes - self.live.numel()

    @property
    def away(self) -> bool:
        """Off the device: `come_back` before anything else is done with them."""
        return bool(self._away)

    def offload(self) -> int:
        """Gives the device's memory back; returns bytes. Between steps, with no refit prepared. Raises HOST_OUT_OF_MEMORY when the
        host has no room."""
        assert self.base is not None
        if self._away:
            return 0
        self._factors.clear()
        pristine = self.known and not self._signature.any() and self.base.arena is not None
        tensors = [(self.live, not pristine), *self._more_device_memory()]
        if self.base.place == "resident":
            tensors.append((self.base.arena, True))
        self._away = send_away(tensors)
        return sum(item.nbytes for item in self._away)

    def let_go_of_factors(self) -> bool:
        """Gives back what is kept for coming refits alone; whether that was anything."""
        held = self._factors.nbytes > 0
        self._factors.clear()
        return held

    def _more_device_memory(self) -> list[tuple[Tensor, bool]]:
        """Further device memory, and whether its values matter."""
        return []

    def come_back(self) -> None:
        """Onto the device again. Raises an out-of-memory error; nothing has changed then."""
        bring_back(self._away)
        if any(item.tensor is self.live and item.kept is None for item in self._away):
            self._renew()
        self._away = []

    def _renew(self) -> None:
        """Live values of no adapter, from a base in memory."""
        assert self.base is not None and self.base.arena is not None
        self.live.copy_(self.base.arena[: self.live.numel()])

    def slot(self, name: str) -> Slot:
        """Raises HOST_PARAMETER_UNKNOWN."""
        slot = self.layout.by_name.get(name)
        if slot is None:
            raise HostFailure("HOST_PARAMETER_UNKNOWN", f"{name}: the engine has no such parameter; plan, adapter or checkpoint belong to another structure",
                              {"parameter": name})  # fmt: skip
        return slot

    def value(self, slot: Slot) -> Tensor:
        """A live weight in canonical layout, where it lies (a view where possible)."""
        return slot.get(self.live)

    def read_back(self, name: str) -> Tensor:
        """A live weight in canonical layout, contiguous, on the host."""
        return on_host(self.value(self.slot(name)))

    def checksums(self, names: Iterable[str], check: Callable[[], None] = lambda: None) -> dict[str, str]:
        """SHA-256 of live weights in canonical layout. `check` is called between them and may raise."""
        with Digests() as digests:
            for name in names:
                check()
                digests.add(name, self.value(self.slot(name)))
            return digests.by_name()


# Parameters that a message names, and those that its evidence lists.
NAMED, LISTED = 3, 200


def not_finite(found: Sequence[tuple[Slot, int]]) -> HostFailure:
    """Every parameter that a stack would take out of its number format, with how many of its values."""
    names = ", ".join(f"{slot.name} ({values} value{'' if values == 1 else 's'})" for slot, values in found[:NAMED])
    more = f" and {len(found) - NAMED} more parameters" if len(found) > NAMED else ""
    dtype = str(found[0][0].dtype).removeprefix("torch.")
    return HostFailure(
        "HOST_NON_FINITE",
        f"{names}{more} would become NaN or infinite in {dtype}; lower the strength, remove the adapter or choose a wider precision",
        {"parameter": found[0][0].name, "count": len(found), "overflowed": [{"parameter": slot.name, "values": values} for slot, values in found[:LISTED]]},
    )  # fmt: skip
