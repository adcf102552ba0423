"""SDXL's fused blocks at real size: their step beside eager, CUDA graph and torch.compile in turn, switches that may be turned, where the step's time goes, and its parts alone.

Options: `parts` (some of PARTS), `rounds`. `wait_for`: a file to wait for before `turns` measures, so that its compiler works beside another
process of this piece; `tell`: a file to write at the end.
"""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator
from unittest import mock

import torch
from refit_host.files.delta import read_delta
from refit_host.fused import operations, unet, use_fused_blocks
from refit_host.models.bind import bind, layout_of
from refit_host.torch_engine.attention import ORDERS
from refit_host.torch_engine.compiled import compile_blocks, steady
from refit_host.torch_engine.graphs import GraphedStep
from refit_host.weights.image import read_image
from torch.nn.attention import sdpa_kernel

from ..context import Context, cudnn_setting, relative_error
from ..kernel_classes import by_class
from .families import random_weights

SIZES = {"batch 2, 1024 px": (2, 1024, 1024), "batch 8, 1024 px": (8, 1024, 1024), "batch 2, 1536 px": (2, 1536, 1536)}
TINY_SIZES = {"batch 2": (2, 512, 512)}
PARTS = ("steps", "profile", "switches", "turns")
FIRST = "batch 2, 1024 px"


class Setting:
    """One arena of SDXL with random values, and the modules over it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.spec, self.shapes = context.sdxl()
        self.weights = random_weights(layout_of(self.spec, self.shapes, context.dtype, channels_last=True), context.device)
        self.sizes = TINY_SIZES if context.tiny else SIZES
        self.inputs = {name: context.inputs(*size) for name, size in self.sizes.items()}
        self.plain = self.made()
        self.fused = use_fused_blocks("unet", self.made(), operations(context.device))

    def made(self) -> torch.nn.Module:
        return bind(self.spec.build(), self.spec, self.weights.layout, self.weights.live)

    def step(self, module: torch.nn.Module, size: str, *, graphed: bool = True) -> Callable[[], torch.Tensor]:
        """A step as the host makes it: a replay of its CUDA graph, captured here."""
        inputs = self.inputs[size]
        if self.context.device.type != "cuda" or not graphed:
            return lambda: self.spec.forward(module, inputs)
        graphs = GraphedStep(self.spec.forward, self.context.device)
        graphs(module, inputs)
        return lambda: graphs(module, inputs)

    def milliseconds(self, step: Callable[[], torch.Tensor], repeats: int = 9) -> float:
        return self.context.wall(step, repeats=repeats, warm=2)["median_ms"]


def _in_turn(setting: Setting, ways: dict[str, Callable[[], torch.Tensor]], rounds: int) -> dict:
    times: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for way, step in ways.items():
            times[way].append(setting.context.wall(step, repeats=1, warm=0)["median_ms"])
    return {
        "median_ms": {way: round(statistics.median(each), 3) for way, each in times.items()},
        "min_ms": {way: min(each) for way, each in times.items()},
        "rounds": rounds,
    }


def _steps(setting: Setting, rounds: int) -> Iterator[dict]:
    context, spec = setting.context, setting.spec
    for size, inputs in setting.inputs.items():
        base = spec.forward(setting.plain, inputs).clone()
        context.sync()
        began = time.perf_counter()
        found = spec.forward(setting.fused, inputs).clone()
        context.sync()
        first = round(time.perf_counter() - began, 2)
        began = time.perf_counter()
        fused = setting.step(setting.fused, size)
        context.sync()
        captured = round(time.perf_counter() - began, 2)
        ways = {"CUDA graph": setting.step(setting.plain, size), "fused": fused}
        if size == next(iter(setting.sizes)):
            ways = {"eager": setting.step(setting.plain, size, graphed=False), **ways}
        yield {
            "what": "fused", "size": size, "first_step_s": first, "capture_s": captured, "error": relative_error(found, base),
            "graph_equals_uncaptured": bool(torch.equal(fused(), found)), **_in_turn(setting, ways, rounds),
        }  # fmt: skip
    yield {"what": "fused, against f32", **_against_f32(setting)}
    yield {"what": "fused, swaps", **_swapped(setting)}
    yield {"what": "fused, residuals", **_residuals(setting)}


def _against_f32(setting: Setting) -> dict:
    """How far the eager and the fused step are from the same step in f32."""
    context, spec, layout = setting.context, setting.spec, setting.weights.layout
    wide = layout_of(spec, setting.shapes, torch.float32, channels_last=False)
    arena = torch.empty(wide.nbytes, dtype=torch.uint8, device=context.device)
    for slot in layout.slots:
        wide.by_name[slot.name].put(arena, slot.get(setting.weights.live))
    module = bind(spec.build(), spec, wide, arena)
    size = next(iter(setting.sizes))
    inputs = setting.inputs[size]
    with cudnn_setting("allow_tf32", False):
        expected = spec.forward(module, {name: value.float() for name, value in inputs.items()})
    return {
        "eager": relative_error(spec.forward(setting.plain, inputs), expected),
        "fused": relative_error(spec.forward(setting.fused, inputs), expected),
    }


def _swapped(setting: Setting) -> dict:
    """To an adapter, back, to it again: the same bits each time, on the same addresses."""
    context, weights = setting.context, setting.weights
    image = read_image(read_delta(context.adapter(50)), weights.layout, pinned=context.device.type == "cuda")
    size = next(iter(setting.sizes))
    fused, eager = setting.step(setting.fused, size), setting.step(setting.plain, size, graphed=False)
    before, address, seen, errors = fused().clone(), weights.live.data_ptr(), [], []
    for stack in ([(image, 1.0)], [], [(image, 1.0)], []):
        weights.commit(weights.prepare(stack))
        seen.append(fused().clone())
        errors.append(relative_error(seen[-1], eager()))
    return {
        "adapter_changes_output_by": relative_error(seen[0], before), "errors": errors, "address_kept": address == weights.live.data_ptr(),
        "there_and_back_bit_identical": bool(torch.equal(seen[1], before) and torch.equal(seen[0], seen[2]) and torch.equal(seen[3], before)),
    }  # fmt: skip


def _residuals(setting: Setting) -> dict:
    from refit_graphs.families import plan

    size = next(iter(setting.sizes))
    inputs, make = dict(setting.inputs[size]), torch.Generator().manual_seed(4)
    batch, _, height, width = inputs["sample"].shape
    for item in plan(dict(setting.shapes)).residuals:
        sides = [
            -(-side // int(str(axis).rpartition("_")[2] if "_" in str(axis) else 1)) for side, axis in zip((height, width), item.axes[2:])
        ]
        inputs[item.name] = (torch.randn(batch, item.axes[1], *sides, generator=make) * 0.1).to(
            setting.context.device, setting.context.dtype
        )
    setting.inputs["residuals"] = inputs
    expected = setting.spec.forward(setting.plain, inputs)
    fused = setting.step(setting.fused, "residuals")
    return {
        "error": relative_error(fused(), expected),
        "fused_ms": setting.milliseconds(fused),
        "graph_ms": setting.milliseconds(setting.step(setting.plain, "residuals")),
    }


@contextmanager
def _order(name: str) -> Iterator[None]:
    with sdpa_kernel(ORDERS[name], set_priority=True):
        yield


@contextmanager
def _library(name: str) -> Iterator[None]:
    before = torch.backends.cuda.preferred_blas_library()
    torch.backends.cuda.preferred_blas_library(name)
    try:
        yield
    finally:
        torch.backends.cuda.preferred_blas_library(before)


def _apart(layers: Any, rows: Any) -> list[torch.Tensor]:
    return [layer(rows) for layer in layers]


def _words_kept(setting: Setting, size: str) -> Any:
    """As if keys and values of the words came from the run's first step."""
    blocks = [block for child in setting.fused.modules() if isinstance(child, unet.Transformer) for block in child.transformer_blocks]
    kept = unet.read(setting.fused.operations, blocks, setting.inputs[size]["encoder_hidden_states"])
    return mock.patch.object(unet, "read", lambda *_: kept)


def _switches(setting: Setting) -> Iterator[dict]:
    """One switch at a time, then together; each a step captured anew."""
    sizes = list(setting.sizes)[:2]
    for size in sizes:
        rows: dict[str, list[Callable[[], Any]]] = {
            "as it is": [],
            "attention: flash first": [lambda: _order("flash")],
            "attention: cuDNN first": [lambda: _order("cudnn")],
            "cudnn.benchmark": [lambda: cudnn_setting("benchmark", True)],
            "cuBLASLt": [lambda: _library("cublaslt")],
            "products apart": [lambda: mock.patch.object(unet, "products", _apart)],
            "words kept": [lambda: _words_kept(setting, size)],
            "cuDNN first, cudnn.benchmark": [lambda: _order("cudnn"), lambda: cudnn_setting("benchmark", True)],
        }
        for name, made in rows.items():
            row: dict[str, Any] = {"what": "switch", "size": size, "switch": name}
            try:
                with ExitStack() as stack:
                    for enter in made:
                        stack.enter_context(enter())
                    began = time.perf_counter()
                    step = setting.step(setting.fused, size)
                    setting.context.sync()
                    row["capture_s"] = round(time.perf_counter() - began, 2)
                row["ms"] = setting.milliseconds(step)
                row["error"] = relative_error(step(), setting.spec.forward(setting.plain, setting.inputs[size]))
            except Exception as error:  # one switch that does not run must not hide the others
                row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            yield row
            gc.collect()


def _profiled(setting: Setting, name: str, module: torch.nn.Module, size: str) -> dict:
    row: dict[str, Any] = {"what": "profile", "size": size, "way": name}
    try:
        step = setting.step(module, size)
        return {**row, "step_ms": setting.milliseconds(step), **by_class(step, setting.context.device)}
    except Exception as error:  # a machine may refuse the profiler
        return {**row, "failed": f"{type(error).__name__}: {str(error)[:200]}"}


def _turns(setting: Setting, options: dict) -> Iterator[dict]:
    if setting.context.device.type != "cuda":
        yield {"what": "turns", "not run": "torch.compile is compared on a CUDA device"}
        return
    began, compiled = time.perf_counter(), setting.made()
    blocks = compile_blocks(compiled, setting.spec.repeated)
    first = list(setting.sizes)[:2]
    errors = {}
    for size in first:
        inputs = setting.inputs[size]
        errors[size] = relative_error(setting.spec.forward(compiled, inputs), setting.spec.forward(setting.plain, inputs))
    setting.context.sync()
    yield {"what": "compiled", "blocks": blocks, "compile_s": round(time.perf_counter() - began, 1), "error": errors}
    if "wait_for" in options:
        until = time.monotonic() + 240
        while not Path(options["wait_for"]).exists() and time.monotonic() < until:
            time.sleep(0.1)
    with steady():
        for size in first:
            ways = {
                "eager": setting.step(setting.plain, size, graphed=False), "CUDA graph": setting.step(setting.plain, size),
                "torch.compile": setting.step(compiled, size), "fused": setting.step(setting.fused, size),
            }  # fmt: skip
            yield {"what": "turns", "size": size, **_in_turn(setting, ways, options.get("rounds", 15))}
        yield _profiled(setting, "torch.compile", compiled, first[0])


def run(context: Context, options: dict) -> Iterator[dict]:
    torch.set_grad_enabled(False)
    setting, parts = Setting(context), options.get("parts", PARTS)
    first = next(iter(setting.sizes))
    if "steps" in parts:
        yield from _steps(setting, options.get("rounds", 15))
    if "profile" in parts:
        for name, module, size in (
            ("fused", setting.fused, first),
            ("CUDA graph", setting.plain, first),
            ("fused", setting.fused, list(setting.sizes)[-1]),
        ):
            yield _profiled(setting, name, module, size)
    if "switches" in parts:
        yield from _switches(setting)
    if "turns" in parts:
        yield from _turns(setting, options)
    if "tell" in options:
        Path(options["tell"]).touch()
