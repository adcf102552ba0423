"""The compiled tier, stage by stage as the host builds it: seconds until it serves, ms per step, error, 100 swaps, and the engine file."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Iterator

import torch
from refit_host.engine_store import EngineStore
from refit_host.torch_engine.artifacts import CompiledCode
from refit_host.torch_engine.compiled import compile_blocks

from ..context import Context, relative_error
from ..engine import Engine
from .steps import SIZES


def private_caches() -> None:
    """Caches of this process alone: whatever is compiled here is compiled now, or comes out of the engine file."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ[name] = tempfile.mkdtemp(prefix="refit-bench-")


def measure(context: Context, engine: Engine, stages: list[tuple[str, ...]], dynamic: bool | None, sizes=SIZES) -> Iterator[dict]:
    reference = {size: (inputs := context.inputs(*size), engine.forward(inputs).clone()) for size in sizes}
    cuda = context.device.type == "cuda"
    began = time.perf_counter()
    for classes in stages:
        engine.module = engine.fresh_module()
        blocks = compile_blocks(engine.module, classes, dynamic=dynamic)
        step = engine.graphed() if cuda else engine.forward
        for size, (inputs, plain) in reference.items():
            first = time.perf_counter()
            output = step(inputs).clone()
            context.sync()
            label = {"classes": list(classes), "dynamic": dynamic, "size": list(size)}
            yield {
                "what": "first call",
                **label,
                "blocks": blocks,
                "seconds": round(time.perf_counter() - first, 1),
                "since_start_s": round(time.perf_counter() - began, 1),
                "error": relative_error(output, plain),
            }
            yield {"what": "step", **label, **context.wall(lambda: step(inputs), warm=3)}
    size, (inputs, _) = next(iter(reference.items()))
    before = step(inputs).clone()
    one, two = [(context.adapter(0), 1.0)], [(context.adapter(1), 0.8)]
    for turn in range(100 if cuda else 2):
        engine.swap(one if turn % 2 else two)
    changed = relative_error(step(inputs), before)
    engine.swap([])
    yield {
        "what": "step after 100 swaps",
        "size": list(size),
        **context.wall(lambda: step(inputs), warm=3),
        "adapter_changes_output_by": changed,
        "base_output_bit_identical": bool(torch.equal(step(inputs), before)),
    }


def run(context: Context, options: dict) -> Iterator[dict]:
    private_caches()
    engine = Engine(context, "resident", channels_last=options.get("channels_last"))
    repeated = engine.spec.repeated
    stages = [tuple(stage) for stage in options.get("stages", [repeated[:1], repeated])]
    yield from measure(context, engine, stages, options.get("dynamic", True), SIZES[: options.get("sizes", len(SIZES))])
    if context.device.type == "cuda":
        began = time.perf_counter()
        size = CompiledCode.of(EngineStore(context.folder / "engines"), "sdxl-bench", str(context.dtype), context.device, []).save()
        yield {"what": "engine file", "bytes": size, "seconds": round(time.perf_counter() - began, 2)}
