"""Where refitted values go: a TensorRT engine, or (engines without a graph) plain device memory.

TensorRT copies weights into its own layout and gives none back, so a refit hands over addresses and a sink cannot be read.
"""

from __future__ import annotations

from typing import Callable, Iterable, Protocol, Sequence

import torch
from refit_host.failure import HostFailure, expect
from refit_host.host.bundle import Row
from refit_host.weights.layout import Layout, Slot
from torch import Tensor

from . import device as gpu
from .runtime import EngineUnloadable, LoadedEngine

# Values of further parameters: (slots placed in the tensor, tensor). The engine asks for them when it stores parameters combined.
Further = Callable[[Sequence[str]], tuple[Sequence[Slot], Tensor]]


class Sink(Protocol):
    """`fixed`: parameters that never change. `device_bytes`: what the live values take. `memory`: where they lie, unless a library holds them."""

    fixed: frozenset[str]
    device_bytes: int
    memory: Tensor | None

    def write(self, slots: Sequence[Slot], memory: Tensor, further: Further, *, on_device: bool = True) -> None:
        """Takes the values of `slots`, which lie at their offsets in `memory`. All of them or a failure."""
        ...

    def read(self, slot: Slot) -> Tensor | None:
        """A live value in canonical order; None where the sink gives nothing back."""
        ...


class MemorySink:
    """Engines without a graph hold their values as they are."""

    fixed: frozenset[str] = frozenset()

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self._layout = layout
        self.memory = torch.empty(layout.nbytes, dtype=torch.uint8, device=device)
        self.device_bytes = 0  # counted with `memory`

    def write(self, slots: Sequence[Slot], memory: Tensor, further: Further, *, on_device: bool = True) -> None:
        for slot in slots:
            self._layout.slots[slot.index].physical(self.memory).copy_(slot.physical(memory))

    def read(self, slot: Slot) -> Tensor | None:
        return slot.get(self.memory)


class EngineSink:
    """Named weights of a loaded engine by address. `rows`: the refit map."""

    memory = None

    def __init__(self, loaded: LoadedEngine, rows: Iterable[Row], layout: Layout) -> None:
        """Raises HOST_NOT_REFITTABLE when the engine takes no refits, EngineUnloadable when its weights are not the refit map's."""
        self._loaded, self._binding = loaded, loaded.binding
        self.device_bytes = sum(slot.nbytes for slot in layout.slots)
        self._rows: dict[str, list[Row]] = {}
        for row in rows:
            expect(not row.swap_halves or row.rows is None or row.rows == (0, layout.by_name[row.parameter].rows), "HOST_GRAPH_INVALID",
                   f"{row.parameter}: exchanged halves of a slice are not supported; export the graph again", parameter=row.parameter)  # fmt: skip
            if row.refittable:
                self._rows.setdefault(row.parameter, []).append(row)
        self.fixed = frozenset(layout.by_name.keys() - self._rows.keys())
        self._owner = {row.weight: name for name, mine in self._rows.items() for row in mine}
        if not loaded.engine.refittable:
            raise not_refittable("")
        self._refitter = self._binding.trt.Refitter(loaded.engine, self._binding.logger)
        self._refitter.weights_validation = (
            False  # every value was proven finite before a commit; the library's own look would cost time between steps
        )
        self._check(layout)

    def _check(self, layout: Layout) -> None:
        """The engine's refittable weights must be exactly the refit map's, each with its dtype and count."""
        names = set(self._refitter.get_all_weights())
        if names != self._owner.keys():
            lost, more = sorted(self._owner.keys() - names), sorted(names - self._owner.keys())
            raise EngineUnloadable(f"its refittable weights are not the refit map's: without {lost[:3]}, with {more[:3]}")
        for name, parameter in self._owner.items():
            slot, prototype = layout.by_name[parameter], self._refitter.get_weights_prototype(name)
            row = next(row for row in self._rows[parameter] if row.weight == name)
            if prototype.size != torch.Size(row.shape).numel() or prototype.dtype != self._binding.dtype(slot.dtype):
                raise EngineUnloadable(f"{name}: the engine wants {prototype.size} of {prototype.dtype}")

    def _set(self, slot: Slot, memory: Tensor, location: object) -> list[str]:
        trt, out = self._binding.trt, []
        for row in self._rows.get(slot.name, ()):
            start, length = row.rows or (0, slot.rows)
            address = memory.data_ptr() + slot.offset + start * slot.cols * slot.dtype.itemsize
            weights = trt.Weights(self._binding.dtype(slot.dtype), address, length * slot.cols)
            expect(self._refitter.set_named_weights(row.weight, weights, location), "HOST_INTERNAL",
                   f"the engine refuses a value for {slot.name}: {self._binding.said()}", parameter=slot.name)  # fmt: skip
            out.append(row.weight)
        return out

    def write(self, slots: Sequence[Slot], memory: Tensor, further: Further, *, on_device: bool = True) -> None:
        """One refit. What the engine combines with these parameters is asked of `further` and written with them."""
        location = self._binding.trt.TensorLocation
        held = [memory]  # addresses must stay valid until the refit is done
        names: list[str] = []
        try:
            for slot in slots:
                names += self._set(slot, memory, location.DEVICE if on_device else location.HOST)
            while missing := self._refitter.get_missing_weights():
                unknown = next((name for name in missing if name not in self._owner or name in names), None)
                expect(unknown is None, "HOST_INTERNAL", f"the engine wants {unknown}, which the refit map does not list")
                more, values = further(sorted({self._owner[name] for name in missing}))
                held.append(values)
                for slot in more:
                    names += self._set(slot, values, location.DEVICE)
            done = self._refitter.refit_cuda_engine_async(gpu.current_handle(memory.device))
            expect(done, "HOST_INTERNAL", f"{self._binding.name} failed to refit the engine: {self._binding.said()}")
        finally:
            # Weights that stay set are read again by the next refit, from memory that is gone by then.
            for name in names:
                self._refitter.unset_named_weights(name)
            if memory.device.type == "cuda":
                torch.cuda.current_stream(memory.device).synchronize()

    def read(self, slot: Slot) -> Tensor | None:
        return None


class FixedSink:
    """An engine that was built for one checkpoint and takes no refits."""

    memory = None

    def __init__(self, layout: Layout) -> None:
        self.fixed = frozenset(layout.by_name)
        self.device_bytes = sum(slot.nbytes for slot in layout.slots)

    def write(self, slots: Sequence[Slot], memory: Tensor, further: Further, *, on_device: bool = True) -> None:
        if slots:
            raise not_refittable(slots[0].name)

    def read(self, slot: Slot) -> Tensor | None:
        return None


def not_refittable(parameter: str) -> HostFailure:
    what = f"; {parameter} cannot change" if parameter else ""
    return HostFailure("HOST_NOT_REFITTABLE", f"this engine was not built refittable{what} (NEEDS_RECOMPILE): load it with --weights stripped",
                       {"parameter": parameter} if parameter else {})  # fmt: skip
