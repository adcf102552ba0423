"""One engine: its weights, the refits that wait for their commit, and (with a graph) the model that steps."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Protocol, Sequence

import torch
from torch import Tensor

from ..failure import HostFailure, expect
from ..files.checkpoint import CheckpointReader, CheckpointSource
from ..files.delta import StackFile, read_delta, stamp_of
from ..weights.image import DeltaImage, ImageCache, read_image
from ..weights.memory import device_budget
from ..weights.refit import Prepared, Weights
from ..wire.messages import PrepareParams
from .check_plan import check_plan

# Adapters that are read at once.
READ_AT_ONCE = 4
# More than one exists only while runs with different stacks alternate.
MAX_PREPARED = 8


class Model(Protocol):
    """What steps on the weights of an engine."""

    @property
    def busy(self) -> bool: ...

    @property
    def tier(self) -> str: ...

    @property
    def refused(self) -> list[dict[str, str]]:
        """Faster ways that were tried and are not used: {steps, reason} each."""
        ...

    def step(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]: ...

    def offload(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Waiting:
    generation: int
    full: bool
    prepared: Prepared


def check_shapes(source: CheckpointSource, weights: Weights) -> None:
    """Raises HOST_PARAMETER_UNKNOWN or HOST_SHAPE_MISMATCH when the checkpoint does not fill this engine."""
    for slot in weights.layout.slots:
        found = source.parameters.get(slot.name)
        if found is None:
            raise HostFailure(
                "HOST_PARAMETER_UNKNOWN", f"{slot.name}: the checkpoint lacks this parameter of the engine", {"parameter": slot.name}
            )
        expect(
            found.shape == slot.shape,
            "HOST_SHAPE_MISMATCH",
            f"{slot.name}: expected the shape {list(slot.shape)}, the checkpoint has {list(found.shape)}; it belongs to another structure",
            parameter=slot.name,
        )


class Engine:
    """`generation` grows with every commit. `prepare` runs in the work lane; all else in the live lane."""

    def __init__(
        self, weights: Weights, model: Model | None, fixed: frozenset[str], images: ImageCache, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.weights = weights
        self.model = model
        self.generation = 1
        # What quantising costs (quant/report.py), for an engine that is quantised.
        self.quantised: dict[str, Any] | None = None
        self._fixed = fixed
        self._images = images
        self._waiting: dict[str, Waiting] = {}
        self._tokens = 0
        self._lock = threading.Lock()
        self._now = now
        self._presence = threading.Lock()
        self._users = 0
        self._last_used = now()

    @contextmanager
    def present(self) -> Iterator["Engine"]:
        """The weights are on the device, and stay there, while this is held. Raises an out-of-memory error when they cannot come back."""
        with self._presence:
            if self.weights.away:
                self.weights.come_back()
            self._users += 1
        try:
            yield self
        finally:
            with self._presence:
                self._users -= 1
                self._last_used = self._now()

    def offload(self, idle_seconds: float = 0) -> int:
        """Weights and graphs leave the device unless something uses them, a refit waits for its commit, or they were used within
        `idle_seconds`; returns bytes given back. Raises HOST_OUT_OF_MEMORY when the host has no room for them."""
        self._drop_stale()
        with self._presence:
            busy = self._users or self.tokens or (self.model is not None and self.model.busy)
            if busy or self.weights.away or self._now() - self._last_used < idle_seconds:
                return 0
            if self.model is not None:
                self.model.offload()
            return self.weights.offload()

    @property
    def dirty(self) -> bool:
        return not self.weights.known

    @property
    def tokens(self) -> list[str]:
        with self._lock:
            return list(self._waiting)

    def images(self, stack: tuple[StackFile, ...]) -> list[tuple[DeltaImage, float]]:
        """Delta files as images, from the cache where the file is unchanged."""
        keys = {item: (str(item.delta), item.sha256, stamp_of(item.delta), self.weights.number) for item in stack}
        known = {key: self._images.get(key) for key in keys.values()}
        lacking = {key: item for item, key in keys.items() if known[key] is None}
        read = dict(zip(lacking, self._read_all([*lacking.values()])))
        for key, image in read.items():
            self._images.put(key, image)
        return [(known[keys[item]] or read[keys[item]], item.strength) for item in stack]

    def _read_all(self, items: Sequence[StackFile]) -> list[DeltaImage]:
        """Several are read side by side. Most refits have none to read, or one: these start no threads."""
        if len(items) < 2:
            return [self._read(item) for item in items]
        with ThreadPoolExecutor(min(READ_AT_ONCE, len(items)), thread_name_prefix="refit-read") as pool:
            return list(pool.map(self._read, items))

    def _read(self, item: StackFile) -> DeltaImage:
        file = read_delta(item.delta, item.sha256)
        image = read_image(file, self.weights.layout, pinned=self.weights.device.type == "cuda", joins=self.weights.joins)
        expect(
            stamp_of(item.delta) == file.stamp,
            "HOST_FILE_CHANGED",
            "the delta file changed while it was read; plan again",
            name=item.delta.name,
        )
        return image

    def prepare(self, params: PrepareParams, cap_bytes: int | None, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Computes and checks a refit beside the live weights."""
        self._drop_stale()
        self._check_start(params.generation, params.plan.full)
        stack = self.images(params.stack)
        slots = check_plan(params.plan, params.stack, [image.file for image, _ in stack], self.weights, self._fixed)
        reader = self._reader(params.checkpoint)
        expect(reader is None or params.plan.full, "HOST_PLAN_INVALID", "expected a full plan for another checkpoint")
        prepared = self.weights.prepare(
            stack, writes=slots, reader=reader, stage=reader is not None and self._second_base_fits(cap_bytes), full=params.plan.full,
            verify=params.verify, cancelled=cancelled, free=self._room_for_factors(cap_bytes), loss=params.adapter_loss,
        )  # fmt: skip
        assert self.weights.base is not None
        (reader or self.weights.base.reader).check_unchanged()
        with self._lock:
            # The engine may have moved on while the files were read.
            self._check_start(params.generation, params.plan.full)
            self._tokens += 1
            token = f"{self.generation}.{self._tokens}"
            self._waiting[token] = Waiting(params.generation, params.plan.full, prepared)
        result = {
            "token": token, "writes": prepared.writes, "bytesRead": prepared.bytes_read, "bytesWritten": prepared.bytes_written,
            "mode": "inPlace",
        }  # fmt: skip
        return {**result, "sha256": prepared.sha256} if params.verify else result

    def _reader(self, source: CheckpointSource | None) -> CheckpointReader | None:
        """None when the base already is this checkpoint. Raises HOST_FILE_* when the file is not what was catalogued, HOST_SHAPE_MISMATCH
        and HOST_PARAMETER_UNKNOWN when it does not fill the engine."""
        assert self.weights.base is not None
        current = self.weights.base.reader
        if source is None or source == current.source:
            current.check_unchanged()
            return None
        check_shapes(source, self.weights)
        return CheckpointReader(source)

    def _second_base_fits(self, cap_bytes: int | None) -> bool:
        """Whether the new checkpoint may be read beside the old one. Only on the device: pinning more host memory takes longer than reading."""
        assert self.weights.base is not None
        free = device_budget(self.weights.device, cap_bytes).device_free
        return self.weights.base.place == "resident" and free > self.weights.layout.nbytes * 1.1

    def _room_for_factors(self, cap_bytes: int | None) -> Callable[[], int] | None:
        """Only beside a base on the device: where that has no room, factors have none."""
        assert self.weights.base is not None
        if self.weights.base.place != "resident":
            return None
        return lambda: device_budget(self.weights.device, cap_bytes).device_free

    def _drop_stale(self) -> None:
        with self._lock:
            self._waiting = {token: item for token, item in self._waiting.items() if item.generation == self.generation}

    def _check_start(self, generation: int, full: bool) -> None:
        if generation != self.generation:
            raise self._stale(generation)
        expect(
            full or not self.dirty,
            "HOST_ENGINE_DIRTY",
            "expected a full plan: an earlier commit was cut short, so the weights belong to no stack",
        )
        expect(
            len(self._waiting) < MAX_PREPARED,
            "HOST_INVALID_PARAMS",
            f"expected at most {MAX_PREPARED} prepared refits; commit or discard one first",
        )

    def _stale(self, generation: int) -> HostFailure:
        return HostFailure("HOST_PLAN_STALE", f"expected a plan from generation {self.generation}, got one from {generation}; plan again",
                           {"expected": self.generation, "got": generation})  # fmt: skip

    def _take(self, token: str) -> Waiting:
        with self._lock:
            waiting = self._waiting.pop(token, None)
        if waiting is None:
            raise HostFailure(
                "HOST_TOKEN_UNKNOWN", "expected the token of a prepared refit that was neither committed nor discarded; prepare again"
            )
        return waiting

    def discard(self, token: str) -> None:
        self._take(token)

    def commit(self, token: str) -> tuple[float, int]:
        """(ms, writes). Between steps."""
        waiting = self._take(token)
        if waiting.generation != self.generation:
            raise self._stale(waiting.generation)
        try:
            ms = self.weights.commit(waiting.prepared)
        finally:
            self.generation += 1
        return ms, waiting.prepared.writes

    def step(self, inputs: dict[str, Tensor], generation: int) -> dict[str, Tensor]:
        if self.model is None:
            raise HostFailure("HOST_NO_GRAPH", "this engine was loaded without a graph, so it cannot step; load it with one")
        expect(not self.dirty, "HOST_ENGINE_DIRTY", "a commit was cut short; prepare and commit a full plan before the next step")
        expect(
            generation == self.generation,
            "HOST_GENERATION_STALE",
            f"expected generation {self.generation}, the step names {generation}; take a new lease",
            expected=self.generation,
            got=generation,
        )
        try:
            return self.model.step(inputs)
        except torch.OutOfMemoryError:
            if not self.weights.let_go_of_factors():
                raise
        return self.model.step(inputs)
