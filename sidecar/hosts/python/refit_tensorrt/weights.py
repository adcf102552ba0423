"""Weights of a TensorRT engine: a pristine base here, the live values in the engine. A refit computes batches of values on the
device from the base and hands each to the sink, so that the device holds one copy of the weights and one batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Sequence

import torch
from refit_host.failure import expect
from refit_host.files.checkpoint import CheckpointReader
from refit_host.weights.base import STEP_BYTES, Base, Place
from refit_host.weights.layout import Layout, Slot
from refit_host.weights.plan import Stack, plan_steps, run_step
from refit_host.weights.refit import Prepared, Weights
from refit_host.weights.stream import Ring
from torch import Tensor

from .sink import Sink, not_refittable


class EngineWeights(Weights):
    """`placed`: every slot at its offset within its batch."""

    def __init__(self, layout: Layout, device: torch.device, ring: Ring, *, merge: str = "auto", batch_bytes: int = STEP_BYTES) -> None:
        super().__init__(layout, device, ring, merge=merge)
        self._batches = layout.ranges(list(layout.slots), batch_bytes)
        self._batch_of = [0] * len(layout.slots)
        slots: list[Slot] = []
        for number, (begin, _, inside) in enumerate(self._batches):
            for slot in inside:
                self._batch_of[slot.index] = number
                slots.append(replace(slot, offset=slot.offset - begin))
        self.placed = Layout(tuple(slots), {slot.name: slot for slot in slots}, layout.nbytes)
        self._sink: Sink | None = None
        self._stack: Stack = ()
        # Loads the engine again and attaches it, after its memory was given back.
        self.reopen: Callable[[], None] | None = None

    def _live_bytes(self) -> int:
        return 0

    @property
    def _merged_layout(self) -> Layout:
        return self.placed

    @property
    def sink(self) -> Sink:
        assert self._sink is not None
        return self._sink

    @property
    def device_bytes(self) -> int:
        return super().device_bytes + (0 if self._sink is None else self._sink.device_bytes)

    @property
    def streamed_bytes(self) -> int:
        return 0

    def _more_device_memory(self) -> list[tuple[Tensor, bool]]:
        return [] if self._sink is None or self._sink.memory is None else [(self._sink.memory, True)]

    def come_back(self) -> None:
        """As `Weights.come_back`, and the engine with them."""
        super().come_back()
        if self._sink is not None:
            return
        assert self.reopen is not None
        try:
            self.reopen()
        except BaseException:
            self.attach(None)
            super().offload()
            raise

    def load(self, place: Place, reader: CheckpointReader, **options: Any) -> int:
        """Reads the base. The engine gets its values with `attach`."""
        self.base, count = self._read_base(place, reader, None, **options)
        self.known = True
        return count

    def _read_base(self, place: Place, reader: CheckpointReader, reuse: Tensor | None, **options: Any) -> tuple[Base, int]:
        if place != "file":
            return Base.load(place, self.layout, reader, self.ring, None, reuse=reuse, **options)
        peaks, count = Base.scan(self.layout, reader, self.ring, **options)
        return Base("file", self.layout, reader, self.ring, None, peaks), count

    def attach(self, sink: Sink | None) -> None:
        """Gives every value of the present stack to a new engine. None: lets the engine go. A failure leaves no engine attached."""
        self._sink = None
        if sink is None:
            return
        base = self.base
        assert base is not None
        if len(sink.fixed) < len(self.layout.slots):
            if base.arena is None:
                base, _ = Base.load("resident", self.layout, base.reader, self.ring, None)
            assert base.arena is not None
            # A stripped engine takes its first values all at once: straight from the base, no copy of it is made.
            sink.write(
                [s for s in self.layout.slots if s.name not in sink.fixed], base.arena, self._further, on_device=base.place == "resident"
            )
            touched = sorted({index for image, _ in self._stack for index in image.every})
            if touched:
                slots, values = self._evaluate([self.layout.slots[index] for index in touched])
                sink.write(slots, values, self._further)
        self._sink = sink

    def rewrite(self) -> None:
        """Writes every value again, batch by batch, as a refit does."""
        for group in self._by_batch(self.layout.slots):
            slots, values = self._evaluate([slot for slot in group if slot.name not in self.sink.fixed])
            self.sink.write(slots, values, self._further)

    def prepare(self, stack: Stack, **options: Any) -> Prepared:
        """As `Weights.prepare`. Raises HOST_NOT_REFITTABLE naming a parameter that this engine cannot change."""
        prepared = super().prepare(stack, **options)
        fixed = self.sink.fixed
        if fixed:
            changes = prepared.reader is not None or prepared.base is not None
            touched = {index for image, _ in (*stack, *self._stack) for index in image.every}
            for slot in prepared.restore:
                if slot.name in fixed and (changes or slot.index in touched):
                    raise not_refittable(slot.name)
        return prepared

    def _groups(
        self, slots: list[Slot], touched: frozenset[int], base: Base, later: CheckpointReader | None
    ) -> tuple[list[Slot], list[list[Slot]]]:
        return slots, [[self.placed.slots[slot.index] for slot in group] for group in self._by_batch(slots)]

    def _by_batch(self, slots: Sequence[Slot]) -> list[list[Slot]]:
        inside: dict[int, list[Slot]] = {}
        for slot in slots:
            inside.setdefault(self._batch_of[slot.index], []).append(slot)
        return [inside[number] for number in sorted(inside)]

    def _write(self, prepared: Prepared) -> None:
        assert self.base is not None
        if prepared.reader is not None:
            old, self.base.arena = self.base.arena, None
            self.base, _ = self._read_base(self.base.place, prepared.reader, old)
        self._stack = prepared.stack
        for group, step in zip(self._by_batch(prepared.restore), prepared.steps):
            scratch = self._pristine(group)
            run_step(step, scratch, scratch)
            changing = [self.placed.slots[slot.index] for slot in group if slot.name not in self.sink.fixed]
            self.sink.write(changing, scratch, self._further)

    def _pristine(self, group: Sequence[Slot]) -> Tensor:
        """A batch's memory with the pristine values of `group` in place."""
        assert self.base is not None
        begin, end, _ = self._batches[self._batch_of[group[0].index]]
        scratch = torch.empty(end - begin, dtype=torch.uint8, device=self.device)
        for first, last, inside in self.layout.ranges(list(group)):
            self.base.fill(scratch[first - begin : last - begin], first, inside)
        return scratch

    def _evaluate(self, slots: Sequence[Slot]) -> tuple[list[Slot], Tensor]:
        """Values of `slots` under the present stack, one behind the other in memory of their own."""
        assert self.base is not None
        placed, offset = [], 0
        slots = sorted(slots, key=lambda slot: slot.index)  # merges want their matrices in arena order
        for slot in slots:
            placed.append(replace(slot, offset=offset))
            offset += (slot.nbytes + 255) // 256 * 256
        memory = torch.empty(offset, dtype=torch.uint8, device=self.device)
        for slot, here in zip(slots, placed):
            self.base.fill(memory[here.offset : here.offset + here.nbytes], slot.offset, [slot])
        table = list(self.layout.slots)
        for here in placed:
            table[here.index] = here
        layout = Layout(tuple(table), {slot.name: slot for slot in table}, offset)
        wanted = frozenset(slot.index for slot in slots)
        touched = frozenset(index for image, _ in self._stack for index in image.every) & wanted
        slow = frozenset(index for image, _ in self._stack for index in image.slow) & touched
        buffers = [self._factors.get(image.factors, None) for image, _ in self._stack]
        for step in plan_steps(layout, [placed], self._stack, buffers, slow, touched, self._prepare_merge, self.device):
            run_step(step, memory, memory)
        return placed, memory

    def _further(self, names: Sequence[str]) -> tuple[Sequence[Slot], Tensor]:
        return self._evaluate([self.slot(name) for name in names])

    def value(self, slot: Slot) -> Tensor:
        """A live value: read from the sink, or where TensorRT gives nothing back, computed again from the base and the present stack."""
        found = self.sink.read(slot)
        if found is not None:
            return found
        expect(
            self.known, "HOST_ENGINE_DIRTY", "a commit was cut short, so what the engine holds is not known; prepare and commit a full plan"
        )
        (here,), memory = self._evaluate([slot])
        return here.get(memory)
