"""Another checkpoint of the same structure: the file in the page cache, the engine loaded. And a first output from nothing loaded."""

from __future__ import annotations

import time
from typing import Iterator

import torch
from refit_host.files.checkpoint import CheckpointReader

from ..context import Context
from ..engine import Engine


def _warm_cache(context: Context, seed: int) -> int:
    """Reads the file once, so that it lies in the page cache; returns its size."""
    path = context.checkpoint(seed).files[0].path
    total = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 24):
            total += len(block)
    return total


def _change(context: Context, engine: Engine, seed: int, stage: bool) -> dict:
    began = time.perf_counter()
    prepared = engine.weights.prepare([], reader=CheckpointReader(context.checkpoint(seed)), stage=stage, full=True)
    context.sync()
    middle = time.perf_counter()
    engine.weights.commit(prepared)
    context.sync()
    end = time.perf_counter()
    return {"seconds": round(end - began, 3), "prepare_s": round(middle - began, 3), "commit_s": round(end - middle, 3)}


def run(context: Context, options: dict) -> Iterator[dict]:
    size = [2, 1024, 1024]
    inputs = context.inputs(*size)
    for seed in (0, 1):
        yield {"what": "file", "bytes": _warm_cache(context, seed)}
    context.sdxl()[0].build()  # imports the model class
    for turn in ("first", "second"):
        context.sync()
        began = time.perf_counter()
        engine = Engine(context, "resident")
        loaded = time.perf_counter() - began
        output = engine.forward(inputs)
        finite = bool(torch.isfinite(output).all())
        yield {
            "what": "nothing loaded to first output, eager",
            "turn": turn,
            "load_s": round(loaded, 3),
            "seconds": round(time.perf_counter() - began, 3),
            "finite": finite,
        }
        del engine
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
    for place in ("resident", "pinned"):
        engine = Engine(context, place)
        clean = engine.digest()
        for stage in (True, False) if place == "resident" else (False,):
            yield {"what": "checkpoint change", "place": place, "staged": stage, **_change(context, engine, 1, stage)}
            began = time.perf_counter()
            figure = _change(context, engine, 0, stage)
            engine.forward(inputs)
            context.sync()
            yield {
                "what": "checkpoint change and first output",
                "place": place,
                "staged": stage,
                "bit_identical_again": engine.digest() == clean,
                **figure,
                "with_output_s": round(time.perf_counter() - began, 3),
            }
        del engine
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
