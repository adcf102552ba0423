"""One engine from a graph and a checkpoint: file, weights, and the check of a new engine against PyTorch.

Order matters on small cards: PyTorch's own copy of the weights is gone before TensorRT's comes, and a base is placed in what is left.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Callable

import torch
from refit_host.failure import HostFailure, expect
from refit_host.files.checkpoint import CheckpointReader
from refit_host.host.bundle import Bundle
from refit_host.host.engine import Engine
from refit_host.weights.layout import Layout
from refit_host.wire.messages import LoadParams
from refit_host.wire.server import Call

from . import device as gpu
from .binding import find
from .build import WeightsMode, ports_of
from .files import EngineFiles, Plan
from .model import TensorRTModel
from .profiles import profiles_for
from .reference import Reference, difference, samples_for, timed, torch_reference
from .runtime import EngineUnloadable, LoadedEngine
from .sink import EngineSink, FixedSink, Sink
from .store import PlanStore
from .weights import EngineWeights

if TYPE_CHECKING:
    from refit_host.host.host import Host

log = logging.getLogger("refit_host")
# Largest relative distance from PyTorch's output that another order of operations explains, with room.
TOLERANCES = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}
# A build gets this much for a step even where the weights leave less: the library then says what it needs.
LEAST_SCRATCH_BYTES = 1 << 30
Fill = Callable[[EngineWeights, str], None]


class Making:
    """`fill(weights, place)` reads the checkpoint into a base."""

    def __init__(
        self, store: PlanStore, params: LoadParams, reader: CheckpointReader, host: "Host", call: Call, bundle: Bundle, variant: str,
        dtype: torch.dtype, fill: Fill,
    ) -> None:  # fmt: skip
        self._store, self._params, self._reader, self._host, self._call = store, params, reader, host, call
        self._bundle, self._variant, self._dtype, self._fill = bundle, variant, dtype, fill
        capability = gpu.capability(host.device)
        self._binding = find(capability)
        memory = gpu.total_bytes(host.device)
        memory = min(memory, host.options.vram_cap_bytes or memory)
        self._mode: WeightsMode = host.options.weights  # type: ignore[assignment]
        shapes = {row.parameter: params.checkpoint.parameters[row.parameter].shape for row in bundle.rows}
        self._layout = Layout.build(shapes, dtype, swapped=frozenset(row.parameter for row in bundle.rows if row.swap_halves))
        scratch = max(memory - self._layout.nbytes, LEAST_SCRATCH_BYTES)
        profiles = profiles_for(bundle.family, memory)
        self._files = EngineFiles(store, self._binding, bundle, profiles, capability, gpu.name(host.device), self._mode, scratch)

    def run(self) -> Engine:
        """Raises HostFailure; nothing is left on the device then."""
        cap, needed = self._host.options.vram_cap_bytes, self._layout.nbytes
        expect(cap is None or needed < cap, "HOST_OUT_OF_MEMORY",
               f"the weights take {needed / 2**30:.2f} GiB, this host may take {(cap or 0) / 2**30:.2f}: raise --vram-mib, choose a smaller precision, or use the "
               "torch host, which streams what does not fit", bytes=needed, freeBytes=cap)  # fmt: skip
        stored = self._files.stored(self._variant)
        if stored is not None:
            # TensorRT gives no weights back, so a load that has to be verified (recovery from UNKNOWN) is proven by its output.
            trusted = stored.proven and not self._params.verify
            try:
                return self._finish(stored, None if trusted else self._reference(stored))
            except EngineUnloadable as error:
                log.info("the stored engine cannot be used (%s); it is built again", error)
            except HostFailure as error:
                # One from another computer or release that computes other numbers here is no verdict on an engine that is built here.
                if trusted or error.code != "HOST_ENGINE_REFUSED":
                    raise
                log.warning("the stored engine computes other numbers than PyTorch here; it is built again")
        values = None
        weights = None
        if self._mode != "stripped":
            weights = self._weights()
            self._fill(weights, "pinned")
            values = self._addresses(weights)
        plan = self._build(self._variant, values)
        try:
            return self._finish(plan, self._reference(plan), weights)
        except EngineUnloadable as error:
            raise self._cannot_load(error) from error

    def _reference(self, plan: Plan) -> Reference:
        samples = samples_for(self._bundle, plan.profiles[0], self._dtype)
        return torch_reference(self._params, self._reader, self._bundle, samples, self._host, self._call)

    def _build(self, variant: str, values: dict[str, int] | None = None) -> Plan:
        self._call.check()
        self._call.notify("progress", {"id": self._call.id, "stage": "build", "done": 0, "total": 1})
        plan = self._files.build(variant, values)
        assert plan.built is not None
        log.info("built %s in %.1f s: %d bytes, %d refittable parameters", variant, plan.built.seconds, len(plan.data), plan.built.weights)
        return plan

    def _cannot_load(self, error: EngineUnloadable) -> HostFailure:
        return HostFailure("HOST_DEVICE_UNSUPPORTED", f"{self._binding.name} {self._binding.version} built an engine that it does not load on {gpu.name(self._host.device)}: "
                           f"{error}. The torch host serves without it.", {"device": gpu.name(self._host.device)})  # fmt: skip

    def _weights(self) -> EngineWeights:
        return EngineWeights(self._layout, self._host.device, self._host.ring, merge=self._host.options.merge)

    def _addresses(self, weights: EngineWeights) -> dict[str, int]:
        """Where the base holds each weight of the graph, for engines that are built with weights."""
        base = weights.base
        assert base is not None and base.arena is not None
        out = {}
        for row in self._bundle.rows:
            slot = self._layout.by_name[row.parameter]
            out[row.weight] = base.arena.data_ptr() + slot.offset + (row.rows[0] if row.rows else 0) * slot.cols * slot.dtype.itemsize
        return out

    def _load(self, plan: Plan, *, residuals: bool = False) -> LoadedEngine:
        return LoadedEngine(self._binding, plan.data, plan.profiles, ports_of(self._bundle, residuals), self._host.device, plan.cache)

    def _sink(self, loaded: LoadedEngine) -> Sink:
        if self._mode == "fixed":
            return FixedSink(self._layout)
        return EngineSink(loaded, self._bundle.rows, self._layout)

    def _finish(self, plan: Plan, reference: Reference | None, weights: EngineWeights | None = None) -> Engine:
        loaded = self._load(plan)
        try:
            if weights is None:
                weights = self._weights()
                self._fill(weights, self._host.options.base)
            weights.attach(self._sink(loaded))
            if reference is not None:
                self._judge(loaded, weights, plan, reference)
        except BaseException:
            loaded.release()
            raise
        self._host.session_loads += 1
        opener = _Opener(self, weights, plan)
        return Engine(
            weights,
            TensorRTModel(self._bundle, weights, loaded, opener.with_residuals, opener.plain),
            weights.sink.fixed,
            self._host.images,
        )

    def _judge(self, loaded: LoadedEngine, weights: EngineWeights, plan: Plan, reference: Reference) -> None:
        """Keeps a good engine, remembers a bad one, and records which host is faster here. Raises HOST_ENGINE_REFUSED."""
        self._compare(loaded, plan, reference)
        if self._mode != "fixed":
            weights.rewrite()
            # The same once more through partial refits: they must leave the engine as it is.
            self._compare(loaded, plan, reference)
        ms = timed(loaded.step, reference.samples[0])
        error = difference(loaded.step(reference.samples[0]), reference.outputs[0])
        facts = {
            "library": f"{self._binding.name} {self._binding.version}", "device": gpu.name(self._host.device), "error": error,
            "tensorrtMs": ms, "torchMs": reference.ms, "torchTier": reference.tier,
        }  # fmt: skip
        self._files.keep(plan, loaded.runtime_cache(), facts)
        if self._mode == "stripped":
            self._store.record_choice(
                self._bundle.structure, self._params.weight_dtype, {**facts, "chosen": "tensorrt" if ms < reference.ms else "torch"}
            )

    def _compare(self, loaded: LoadedEngine, plan: Plan, reference: Reference) -> None:
        for sample, expected in zip(reference.samples, reference.outputs):
            error = difference(loaded.step(sample), expected)
            if not error <= TOLERANCES[self._dtype]:
                failure = self._files.refuse(plan, error)
                self._store.record_choice(
                    self._bundle.structure, self._params.weight_dtype, {"chosen": "torch", "error": failure.evidence["error"]}
                )
                raise failure


class _Opener:
    """Changes between the plain engine and the one with residual inputs; the one that goes has let go of its memory."""

    def __init__(self, making: Making, weights: EngineWeights, plain: Plan) -> None:
        self._making, self._weights, self._plain = making, weights, plain

    def plain(self) -> LoadedEngine:
        loaded = self._making._load(self._plain)
        self._weights.attach(self._making._sink(loaded))
        return loaded

    def with_residuals(self) -> LoadedEngine:
        """Raises HOST_NOT_REFITTABLE for an engine with weights inside, and what building raises."""
        making = self._making
        variant = f"residuals-{making._variant}"
        expect(
            making._mode == "stripped",
            "HOST_NOT_REFITTABLE",
            "ControlNet needs an engine that was built refittable: load it with --weights stripped",
        )
        making._bundle.file(variant)
        stored = making._files.stored(variant)
        # Nothing compares this variant with PyTorch, so only what was made here is used.
        plan = stored if stored is not None and stored.proven else making._build(variant)
        try:
            loaded = making._load(plan, residuals=True)
        except EngineUnloadable:
            plan = making._build(variant)
            try:
                loaded = making._load(plan, residuals=True)
            except EngineUnloadable as error:
                raise making._cannot_load(error) from error
        try:
            self._weights.attach(making._sink(loaded))
        except EngineUnloadable as error:
            loaded.release()
            raise making._cannot_load(error) from error
        except BaseException:
            loaded.release()
            raise
        making._files.keep(plan, loaded.runtime_cache(), {})
        return loaded
