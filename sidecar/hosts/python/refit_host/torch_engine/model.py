"""A module that steps on an engine's weights: inputs checked and moved, the fastest ready way taken, outputs handed back.

Eager at once; a CUDA graph per size from the first use of that size; inside the graph the family's fused blocks, or compiled ones
when the background build is done. Every way reads the same arena, so changing between them between two steps changes no weight.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Callable, NamedTuple

import torch
from torch import Tensor

from ..engine_store import EngineStore
from ..failure import HostFailure
from ..fused.passes import Operations
from ..host.bundle import Bundle
from ..host.step_inputs import check_inputs
from ..models.spec import ModelSpec
from .artifacts import CompiledCode
from .builder import Builder, tolerance_of
from .compiled import steady
from .fused import fused_module
from .graphs import GraphedStep
from .placing import Placed

if TYPE_CHECKING:
    from ..host.host import Host

log = logging.getLogger("refit_host")
KINDS = {"f32": torch.float32, "i64": torch.int64}


Make = Callable[[], torch.nn.Module]


class _Other(NamedTuple):
    """Modules of a variant of the weights."""

    number: int
    module: torch.nn.Module
    builder: Builder | None


class TorchModel:
    def __init__(
        self, spec: ModelSpec, placed: Placed, bundle: Bundle, dtype: torch.dtype, host: "Host", told: Callable[[], None] = lambda: None
    ) -> None:  # fmt: skip
        """`dtype`: of the step's float tensors. `told`: called when the way that steps take has changed."""
        self._make = make = placed.make
        self._spec, self._bundle, self._dtype, self._device = spec, bundle, dtype, host.device
        self._module, self._fused = make(), False
        self._refused: list[dict[str, str]] = []
        # Modules of the present variant of the weights, where it is not the first (weights with branches beside their products).
        self._writes = placed.weights.writes
        self._variant, self._make_other, self._other = placed.variant, placed.make_variant or make, _Other(0, self._module, None)
        self._tolerance = tolerance_of(dtype, quantised=placed.quantised is not None)
        tier = host.options.tier if host.device.type == "cuda" else "eager"
        self._graphs = GraphedStep(spec.forward, host.device) if tier != "eager" else None
        self._builder: Builder | None = None
        self._code: CompiledCode | None = None
        self._fuse: Callable[[Make], tuple[torch.nn.Module | None, str | None]] | None = None
        self._without_graph = False
        self._told, self._stepped = told, 0.0
        if placed.compiles:
            self._code = CompiledCode.of(EngineStore.of(host.options), bundle.structure, placed.precision, host.device, bundle.refit_map)
            self._builder = Builder(
                spec,
                make,
                host.device,
                self._code,
                self._tolerance,
                writes=placed.weights.writes,
                told=told,
                rested=lambda: time.monotonic() - self._stepped,
            )

    def use_fused(self, operations: Operations, probe: dict[str, Tensor]) -> None:
        """Serves with the family's fused blocks where it has them and they pass: then nothing is left to compile. `probe`: inputs of a small step."""
        if self._builder is None:
            return
        inputs = self._checked(probe)
        self._fuse = lambda make: fused_module(self._spec, make, operations, inputs, self._tolerance)
        module, reason = self._fuse(self._make)
        if module is not None:
            self._module, self._builder, self._fused = module, None, True
        elif reason is not None:
            self._refused.append({"steps": "fused blocks", "reason": reason})

    @property
    def tier(self) -> str:
        """What serves now, in words."""
        if self._fused:
            return "fused blocks in CUDA graphs"
        if self._builder is not None and self._builder.stage_of:
            return f"compiled blocks in CUDA graphs, stage {1 + max(self._builder.stage_of.values())} of {len(self._builder.stages)}"
        return "CUDA graphs" if self._graphs is not None else "eager"

    @property
    def refused(self) -> list[dict[str, str]]:
        """Faster ways that were tried and are not used, and why."""
        return [*self._refused, *(self._builder.refusals if self._builder is not None else [])]

    def step(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raises HOST_INPUT_INVALID, HOST_STEP_FAILED, or lets an out-of-memory error through."""
        self._stepped = time.monotonic()
        ready = self._checked(inputs)
        try:
            # Gradient mode belongs to a thread, and compiled code made without gradients is refused where they are on.
            with torch.no_grad():
                output = self._run(ready)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise HostFailure(
                "HOST_STEP_FAILED", f"the engine failed while it ran a step: {str(error).splitlines()[0]}. The weights are unchanged."
            ) from error
        return {self._bundle.outputs[0]["name"]: output}

    def _run(self, inputs: dict[str, Tensor]) -> Tensor:
        plain, builder = self._present()
        if "sample" not in inputs:
            # No step: asked once a run, with another number of words each time.
            return self._spec.forward(plain, inputs)
        compiled = None if builder is None else builder.module_for(inputs)
        module = plain if compiled is None else compiled
        if self._graphs is None:
            return self._spec.forward(module, inputs)
        if self._graphs.has(module, inputs):
            return self._graphs(module, inputs)
        if builder is None:
            return self._captured(module, inputs)
        # A compiler at work must not be disturbed by a capture, nor the capture by it: until it pauses, steps run as they can.
        if not builder.quiet.acquire(blocking=False):
            return self._graphs(plain, inputs) if self._graphs.has(plain, inputs) else self._spec.forward(plain, inputs)
        try:
            with steady() if compiled is not None else nullcontext():
                return self._captured(module, inputs)
        finally:
            builder.quiet.release()

    def _present(self) -> tuple[torch.nn.Module, Builder | None]:
        """What steps on the present weights. A variant is made when it is first stepped on; the first one stays beside it."""
        number = self._variant()
        if number == 0:
            return self._module, self._builder
        if self._other.number != number:
            if self._other.builder is not None:
                self._other.builder.close()
            if self._graphs is not None and self._other.number:
                self._graphs.forget(self._other.module)
            module = self._fuse(self._make_other)[0] if self._fused and self._fuse is not None else None
            builder = None
            if self._builder is not None and self._code is not None:
                builder = Builder(self._spec, self._make_other, self._device, self._code, self._tolerance, writes=self._writes,
                                  told=self._told, rested=lambda: time.monotonic() - self._stepped, quiet=self._builder.quiet)  # fmt: skip
            self._other = _Other(number, module or self._make_other(), builder)
        return self._other.module, self._other.builder

    def _captured(self, module: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The first step of a size as a CUDA graph; without one where its memory does not fit beside everything else."""
        if self._without_graph or self._graphs is None:
            return self._spec.forward(module, inputs)
        try:
            return self._graphs(module, inputs)
        except torch.OutOfMemoryError:
            log.warning("no memory for another CUDA graph; steps of new sizes run without")
            self._refused.append({"steps": "new sizes", "reason": "no memory for another CUDA graph"})
            self._told()
            self._graphs.release()
            self._without_graph = True
            torch.cuda.empty_cache()
        return self._spec.forward(module, inputs)

    def _checked(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Inputs by the graph's table, on the device, in its dtypes."""
        # Converted on the device: a conversion on the way would copy pinned memory to pageable first.
        kinds = {port["name"]: KINDS.get(port["dtype"], self._dtype) for port in check_inputs(self._bundle, inputs)}
        return {name: inputs[name].to(self._device).to(kind) for name, kind in kinds.items()}

    @property
    def busy(self) -> bool:
        """Something other than a step uses the weights: a compilation in the background."""
        return any(builder is not None and builder.busy for builder in (self._builder, self._other.builder))

    def offload(self) -> None:
        """Gives back what graphs hold; their next use captures them again. Compiled code stays."""
        if self._graphs is not None:
            self._graphs.release()
        self._without_graph = False
        self._refused = [row for row in self._refused if row["steps"] != "new sizes"]

    def release(self) -> None:
        """Gives back what graphs hold; the module goes with its owner."""
        if self._graphs is not None:
            self._graphs.release()
        for builder in (self._builder, self._other.builder):
            if builder is not None:
                builder.close()
