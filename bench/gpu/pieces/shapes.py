"""Many sizes on one engine: seconds until the first answer at a size never seen, and ms per step, without any compilation.

With `{"compiled": true}` the blocks are compiled at the first size and then held steady, as the host does it.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Iterator

from refit_host.torch_engine.compiled import compile_blocks, steady
from torch._dynamo.utils import counters

from ..context import Context
from ..engine import Engine

# batch, height, width, tokens
SIZES = (
    (2, 1024, 1024, 77),
    (1, 768, 1152, 77),
    (1, 512, 512, 77),
    (2, 832, 1216, 154),
    (2, 1536, 1536, 77),
    (4, 1024, 1024, 231),
    (8, 512, 512, 308),
    (8, 1024, 1024, 77),
)


def run(context: Context, options: dict) -> Iterator[dict]:
    engine = Engine(context, "resident")
    cuda, compiled = context.device.type == "cuda", options.get("compiled", False)
    sizes = SIZES if cuda else SIZES[:3]
    engine.forward(context.inputs(*sizes[0]))
    if compiled:
        compile_blocks(engine.module, options.get("classes", engine.spec.repeated[:1]))
        for size in sizes[:2]:
            engine.forward(context.inputs(*size))
    step = engine.graphed() if cuda else engine.forward
    for size in sizes:
        inputs = context.inputs(*size)
        before = counters["stats"]["unique_graphs"]
        context.sync()
        began = time.perf_counter()
        with steady() if compiled else nullcontext():
            step(inputs)
        context.sync()
        first = time.perf_counter() - began
        yield {
            "what": "size",
            "compiled": compiled,
            "size": list(size),
            "first_use_s": round(first, 2),
            "graphs_compiled": counters["stats"]["unique_graphs"] - before,
            **context.wall(lambda: step(inputs), warm=2, repeats=5),
        }
