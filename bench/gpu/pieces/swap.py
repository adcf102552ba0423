"""Adapter swaps: base resident and in pinned memory, a stack of five, a change of strength, back to base; bit for bit."""

from __future__ import annotations

import time
from typing import Iterator

import torch
from refit_host.weights.loss import LossSums
from refit_host.weights.merge import triton_works

from ..context import Context
from ..engine import Engine

BLOCKS = ((64, 128, 4), (128, 128, 4), (128, 128, 8), (64, 256, 8), (128, 256, 8), (32, 256, 4))


def _stacks(context: Context) -> tuple[list, list, list]:
    paths = [context.adapter(seed) for seed in range(6)]
    return [(paths[0], 1.0)], [(paths[1], 0.8)], [(path, 0.3 + 0.1 * i) for i, path in enumerate(paths[1:])]


def _tune(context: Context, engine: Engine, stack: list) -> Iterator[dict]:
    """Tile shapes of the merge kernel, kernel time alone."""
    from refit_host.weights import merge_triton
    from refit_host.weights.table import build_table

    images = [(engine.image(path), strength) for path, strength in stack]
    buffers = [image.factors.to(context.device) for image, _ in images]
    slots = [slot for slot in engine.layout.slots if any(slot.index in image.every for image, _ in images)]
    table = build_table(engine.layout, [(image.fast, strength) for image, strength in images], slots)
    for blocks in BLOCKS:
        launch = merge_triton.prepare(engine.layout, table, buffers, context.device, blocks=blocks)
        figure = context.wall(lambda: merge_triton.run(launch, engine.layout, engine.weights.live, engine.weights.base.device_arena))
        yield {"what": "merge kernel", "adapters": len(stack), "blocks": list(blocks), **figure}
        figure = context.wall(
            lambda: merge_triton.run(launch, engine.layout, engine.weights.live, engine.weights.base.device_arena, losses=LossSums())
        )
        yield {"what": "merge kernel with sums of what is lost", "adapters": len(stack), "blocks": list(blocks), **figure}


def _measure(context: Context, engine: Engine, place: str, merge: str) -> Iterator[dict]:
    one, two, five = _stacks(context)
    label = {"place": place, "merge": merge}
    for path, _ in [*one, *five]:
        engine.image(path)
    clean = engine.digest()
    engine.swap(one)
    with_one = engine.digest()
    turns = iter([two, one] * 10_000)
    yield {"what": "swap one adapter", **label, **context.wall(lambda: engine.swap(next(turns)), warm=3)}
    turns = iter([0.3, 0.9] * 10_000)
    yield {"what": "change of strength", **label, **context.wall(lambda: engine.swap([(one[0][0], next(turns))]))}
    turns = iter([five, five[::-1]] * 10_000)
    yield {"what": "stack of five", **label, **context.wall(lambda: engine.swap(next(turns)))}

    def there_and_back() -> None:
        engine.swap(one)
        context.sync()
        began = time.perf_counter()
        engine.swap([])
        context.sync()
        back.append((time.perf_counter() - began) * 1000)

    back: list[float] = []
    context.wall(there_and_back)
    back.sort()
    yield {
        "what": "back to base",
        **label,
        "median_ms": round(back[len(back) // 2], 3),
        "min_ms": round(back[0], 3),
        "n": len(back),
        "bit_identical": engine.digest() == clean,
    }
    engine.swap(five)
    engine.swap(one)
    yield {"what": "A to stack to A", **label, "bit_identical": engine.digest() == with_one}
    began = time.perf_counter()
    prepared = engine.prepare(two)
    middle = time.perf_counter()
    engine.weights.commit(prepared)
    yield {
        "what": "one swap, parts",
        **label,
        "prepare_ms": round((middle - began) * 1000, 3),
        "commit_ms": round((time.perf_counter() - middle) * 1000, 3),
    }


def _first_use(context: Context, engine: Engine) -> dict:
    """From the delta file in the page cache: header, terms, factors into pinned memory."""
    path = context.adapter(0)
    engine._images.pop(path, None)
    began = time.perf_counter()
    engine.image(path)
    return {"what": "delta file to pinned image", "ms": round((time.perf_counter() - began) * 1000, 1), "bytes": engine.image(path).nbytes}


def run(context: Context, options: dict) -> Iterator[dict]:
    wanted = options.get("places", ["resident", "pinned", "file"])
    for place in wanted:
        for merge in ("triton", "torch") if triton_works(context.device) and place == "resident" else ("auto",):
            began = time.perf_counter()
            engine = Engine(context, place, merge=merge)
            context.sync()
            yield {"what": "load", "place": place, "seconds": round(time.perf_counter() - began, 2)}
            if merge == "triton":
                one, _, five = _stacks(context)
                yield from _tune(context, engine, one)
                yield from _tune(context, engine, five)
                # Tuning writes past the engine's books; without this "back to base" would be compared with its leavings.
                engine.weights.live.copy_(engine.weights.base.device_arena)
            yield _first_use(context, engine)
            yield from _measure(context, engine, place, engine.weights.merge_name)
            del engine
            if context.device.type == "cuda":
                torch.cuda.empty_cache()
