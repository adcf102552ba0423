"""Fused blocks of Z-Image, Qwen-Image and Wan at real width, beside the same steps eager, as CUDA graphs and with torch.compile: every way in turn, round after round.

Options: `names` (some of STRUCTURES), `rounds`. With --tiny one narrow structure, to try the piece itself.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Callable, Iterator

import torch
from refit_host.files.delta import read_delta
from refit_host.fused import operations
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from refit_host.torch_engine.compiled import compile_blocks, steady
from refit_host.torch_engine.graphs import GraphedStep
from refit_host.weights.image import read_image
from refit_host.weights.refit import Weights

from .. import data
from ..context import Context, relative_error
from ..structures import FUSED
from .families import random_weights, step_inputs

RANK = 16


def _one(context: Context, name: str, options: dict) -> Iterator[dict]:
    make_shapes, sizes = FUSED[name]
    shapes, device, began = make_shapes(), context.device, time.perf_counter()
    spec = spec_of(shapes)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    weights = random_weights(layout_of(spec, shapes, dtype, channels_last=False), device)
    layout = weights.layout
    inputs = step_inputs(spec, shapes, sizes, device, dtype)

    def made() -> torch.nn.Module:
        return bind(spec.build(), spec, layout, weights.live)

    plain, compiled = made(), made()
    assert spec.fuse is not None
    fused = spec.fuse(made(), operations(device))
    base = spec.forward(plain, inputs).clone()
    started = time.perf_counter()
    error = {"fused": relative_error(spec.forward(fused, inputs), base)}
    context.sync()
    row = {
        "what": "fused",
        "name": name,
        "sizes": sizes,
        "parameters": sum(slot.count for slot in layout.slots),
        "fused_first_step_s": round(time.perf_counter() - started, 2),
    }
    ways: dict[str, Callable[[], torch.Tensor]] = {"eager": lambda: spec.forward(plain, inputs)}
    if device.type == "cuda":
        started = time.perf_counter()
        row["compiled_blocks"] = compile_blocks(compiled, spec.repeated)
        error["compiled"] = relative_error(spec.forward(compiled, inputs), base)
        context.sync()
        row["compile_s"] = round(time.perf_counter() - started, 1)
        graphs = GraphedStep(spec.forward, device)
        ways |= {"CUDA graph": lambda: graphs(plain, inputs), "fused": lambda: graphs(fused, inputs)}
        with steady():
            graphs(compiled, inputs)
        ways["torch.compile"] = lambda: graphs(compiled, inputs)
    else:
        ways["fused"] = lambda: spec.forward(fused, inputs)
    times: dict[str, list[float]] = {way: [] for way in ways}
    with steady():
        for way in ways.values():
            way()
        for _ in range(options.get("rounds", 12)):
            for way, step in ways.items():
                times[way].append(context.wall(step, repeats=1, warm=0)["median_ms"])
    medians = {way: round(statistics.median(each), 3) for way, each in times.items()}
    row |= {
        "median_ms": medians,
        "min_ms": {way: min(each) for way, each in times.items()},
        "rounds": len(times["eager"]),
        "relative_error": error,
    }
    if "torch.compile" in times:
        paired = [one - other for one, other in zip(times["fused"], times["torch.compile"], strict=True)]
        row["fused_minus_compile_ms"] = {
            "median": round(statistics.median(paired), 3),
            "min": round(min(paired), 3),
            "max": round(max(paired), 3),
        }
    yield row | _swapped(context, weights, shapes, name, ways["fused"], ways["eager"])
    yield {"what": "fused, time", "name": name, "seconds": round(time.perf_counter() - began, 1)}


def _swapped(
    context: Context,
    weights: Weights,
    shapes: dict[str, tuple[int, ...]],
    name: str,
    fused: Callable[[], torch.Tensor],
    eager: Callable[[], torch.Tensor],
) -> dict:
    """To an adapter, back, to it again: the same bits each time, on the same addresses."""
    layers = [
        layer
        for layer, shape in shapes.items()
        if len(shape) == 2 and ("blocks." in layer or "layers." in layer) and layer.endswith("weight")
    ]
    folder = context.folder / "fused"
    folder.mkdir(parents=True, exist_ok=True)
    image = read_image(
        read_delta(data.adapter(folder, shapes, context.device, 50, RANK, layers=layers, stem=name)),
        weights.layout,
        pinned=context.device.type == "cuda",
    )
    before, address, seen = fused().clone(), weights.live.data_ptr(), []
    for stack in ([(image, 1.0)], [], [(image, 1.0)]):
        weights.commit(weights.prepare(stack))
        seen.append(fused().clone())
        if stack:
            error = relative_error(seen[-1], eager())
    return {
        "adapter_changes_output_by": relative_error(seen[0], before), "with_adapter_relative_error": error,
        "there_and_back_bit_identical": bool(torch.equal(seen[1], before) and torch.equal(seen[0], seen[2])), "address_kept": address == weights.live.data_ptr(),
    }  # fmt: skip


def run(context: Context, options: dict) -> Iterator[dict]:
    for name in options.get("names", ["z-image-tiny"] if context.tiny else [name for name in FUSED if name != "z-image-tiny"]):
        try:
            yield from _one(context, name, options)
        except Exception as error:  # one structure's failure must not hide the others
            yield {"what": "fused", "name": name, "failed": f"{type(error).__name__}: {error}"[:600]}
        gc.collect()
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
