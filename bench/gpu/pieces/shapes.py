"""Many sizes on one compiled engine: seconds until the first answer at a size never seen, ms per step, and no recompilation."""

from __future__ import annotations

import time
from typing import Iterator

from torch._dynamo.utils import counters

from refit_host.torch_engine.compiled import compile_blocks
from refit_host.torch_engine.graphs import GraphedStep

from ..context import Context
from ..engine import Engine

# batch, height, width, tokens
SIZES = ((2, 1024, 1024, 77), (1, 768, 1152, 77), (1, 512, 512, 77), (2, 832, 1216, 154), (2, 1536, 1536, 77), (4, 1024, 1024, 231), (8, 512, 512, 308), (8, 1024, 1024, 77))


def run(context: Context, options: dict) -> Iterator[dict]:
    engine = Engine(context, "resident")
    cuda = context.device.type == "cuda"
    if options.get("compiled", True):
        compile_blocks(engine.module, options.get("classes", ["BasicTransformerBlock", "ResnetBlock2D"]), dynamic=True)
    step = GraphedStep(engine.forward, context.device) if cuda else engine.forward
    for number, size in enumerate(SIZES if cuda else SIZES[:3]):
        inputs = context.inputs(*size)
        before = counters["stats"]["unique_graphs"]
        context.sync()
        began = time.perf_counter()
        step(inputs)
        context.sync()
        first = time.perf_counter() - began
        yield {"what": "size", "size": list(size), "first_use_s": round(first, 2), "graphs_compiled": counters["stats"]["unique_graphs"] - before,
               **context.wall(lambda: step(inputs), warm=2, repeats=5)}
