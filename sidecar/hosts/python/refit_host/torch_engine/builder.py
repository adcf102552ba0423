"""Compiles in the background while the engine serves uncompiled, stage by stage, and hands each finished stage over between steps."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, Mapping

import torch
from torch import Tensor

from ..distance import relative_error
from ..models.spec import ModelSpec
from ..quick_start import yield_processor
from ..weights.writes import Writes
from .artifacts import CompiledCode
from .compiled import compile_blocks, size_class

log = logging.getLogger("refit_host")
# Largest ||other - eager|| / ||eager|| that fp16 arithmetic in another order explains, with room.
TOLERANCE = 0.02
# bf16 rounds eight times as coarsely (transformers of real size: 0.010 to 0.015). Where activations are quantised at every step, what differs by one
# rounding may take the neighbouring code.
COARSE_TOLERANCE = 0.06
SizeClass = tuple[bool, bool]
Inputs = Mapping[str, Tensor]


# Seconds. A sampler that has not asked for a step for so long is done with its picture.
REST = 1.5
LONGEST_WAIT = 120.0
LOOK_AGAIN = 0.25
# Comparisons beside refits, before a refit waits for one: two steps, 0.1 s on a GPU.
COMPARISONS = 3


def describe(kind: SizeClass) -> str:
    """A kind of step, in words."""
    one, residuals = kind
    return f"batch {'1' if one else '2 and more'}{', ControlNet' if residuals else ''}"


def tolerance_of(dtype: torch.dtype, *, quantised: bool) -> float:
    """For an engine whose steps are of this dtype."""
    return COARSE_TOLERANCE if quantised or dtype == torch.bfloat16 else TOLERANCE


class Builder:
    """One background thread per engine. `quiet` is held while it compiles: nobody may capture a CUDA graph then."""

    def __init__(
        self, spec: ModelSpec, make: Callable[[], torch.nn.Module], device: torch.device, code: CompiledCode,
        tolerance: float = TOLERANCE, *, writes: Writes | None = None, told: Callable[[], None] = lambda: None,
        rested: Callable[[], float] = lambda: float("inf"), quiet: threading.Lock | None = None,
    ) -> None:  # fmt: skip
        """`writes`: knows of writes to the live weights. `told`: called when a stage serves or is refused. `rested`: seconds since the last step. `quiet`: of another builder of
        the same engine."""
        self.quiet = quiet or threading.Lock()
        self._spec, self._make, self._device = spec, make, device
        self._code, self._tolerance = code, tolerance
        self._writes, self._told, self._rested = writes or Writes(), told, rested
        self._wanted: dict[SizeClass, dict[str, Tensor]] = {}
        self._ready: dict[SizeClass, torch.nn.Module] = {}
        self._refused: dict[SizeClass, str] = {}
        self._done: set[SizeClass] = set()
        self._working = False
        self._wake = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        # Most of the time is in the transformer blocks and their compilation is short: they go first.
        self.stages = [spec.repeated[:1], spec.repeated] if len(spec.repeated) > 1 else [spec.repeated]
        self.stage_of: dict[SizeClass, int] = {}

    def module_for(self, inputs: Inputs) -> torch.nn.Module | None:
        """The fastest finished module for inputs of this kind; asks for one when there is none."""
        kind = size_class(inputs)
        if kind not in self._wanted and kind not in self._refused:
            with self._wake:
                self._wanted[kind] = {name: value.clone() for name, value in inputs.items()}
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="refit-compile", daemon=True)
                    self._thread.start()
                self._wake.notify()
        return self._ready.get(kind)

    @property
    def refusals(self) -> list[dict[str, str]]:
        """What is not compiled, and why: one row per kind of step."""
        return [{"steps": describe(kind), "reason": reason} for kind, reason in list(self._refused.items())]

    @property
    def busy(self) -> bool:
        """It compiles, or is about to."""
        with self._wake:
            return not self._ended and (self._working or bool(self._wanted.keys() - self._done))

    def close(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()

    def _work(self) -> None:
        torch.set_grad_enabled(False)
        yield_processor()
        warm = self._code.load()
        done = self._done
        modules: list[torch.nn.Module] = []
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._ended or self._wanted.keys() - done)
                if self._ended:
                    return
                kind = next(kind for kind in self._wanted if kind not in done)
                self._working = True
                done.add(kind)
            try:
                self._build(kind, modules, warm)
            except Exception as error:  # a compiler may fail in any way; the uncompiled engine goes on serving
                reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no message'}"
                log.warning("compiling for %s failed (%s); these steps stay uncompiled", describe(kind), reason)
                self._refused[kind] = reason
                self._ready.pop(kind, None)
                self.stage_of.pop(kind, None)
                self._told()
            finally:
                with self._wake:
                    self._working = False

    def _build(self, kind: SizeClass, modules: list[torch.nn.Module], warm: bool) -> None:
        inputs = self._wanted[kind]
        plain = self._make()
        stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(stream):
            for number, classes in enumerate(self.stages):
                self._await_rest()
                began = time.perf_counter()
                if len(modules) <= number:
                    modules.append(self._make())
                    compile_blocks(modules[number], classes)
                with self.quiet:
                    self._spec.forward(modules[number], inputs)
                    stream.synchronize()
                    error = self._difference(plain, modules[number], inputs, stream)
                if not error < self._tolerance:
                    raise ValueError(f"compiled output differs by {error:.3g}")
                self._ready[kind] = modules[number]
                self.stage_of[kind] = number
                log.info(
                    "compiled %s in %.1f s%s", ", ".join(classes), time.perf_counter() - began, " from the engine store" if warm else ""
                )
                self._told()
        self._code.save()

    def _await_rest(self) -> None:
        """A compiler takes half of the speed of the steps beside it: each stage begins between two pictures, under a queue without end after a while anyway."""
        deadline = time.monotonic() + LONGEST_WAIT
        with self._wake:
            while not self._ended and self._rested() < REST and time.monotonic() < deadline:
                self._wake.wait(LOOK_AGAIN)

    def _difference(self, plain: torch.nn.Module, compiled: torch.nn.Module, inputs: Inputs, stream: torch.cuda.Stream) -> float:
        """How far the compiled output is from the plain one, both made with one set of weights: a refit between the two makes them again, and
        after a few of those one waits for the comparison. Compiled code never holds weights, so nothing else depends on when it was made."""

        def compared() -> float:
            expected = self._spec.forward(plain, inputs)
            output = self._spec.forward(compiled, inputs)
            stream.synchronize()
            return relative_error(output, expected)

        for _ in range(COMPARISONS):
            before = self._writes.count
            error = compared()
            # A wrong output is believed when nothing wrote meanwhile, a right one always: weights that changed in between do not make two outputs equal.
            if error < self._tolerance:
                return error
            if self._writes.count == before and self._writes.still:
                break
        with self._writes.held():
            return compared()
