"""A second start: compiled code comes out of the engine file that the piece "compiled" left."""

from __future__ import annotations

import time
from typing import Iterator

from torch._dynamo.utils import counters

from refit_host.torch_engine import artifacts

from ..context import Context
from ..engine import Engine
from .compiled import engine_key, measure, private_caches
from .steps import SIZES


def run(context: Context, options: dict) -> Iterator[dict]:
    if context.device.type != "cuda":
        return
    private_caches()
    began = time.perf_counter()
    yield {"what": "engine file read", "found": artifacts.load(context.folder / "engines", engine_key(context)), "seconds": round(time.perf_counter() - began, 2)}
    engine = Engine(context, "resident")
    stages = [tuple(stage) for stage in options.get("stages", [engine.spec.repeated])]
    yield from measure(context, engine, stages, options.get("dynamic", True), SIZES[: options.get("sizes", len(SIZES))])
    yield {"what": "caches", "hits": counters["inductor"]["fxgraph_cache_hit"], "misses": counters["inductor"]["fxgraph_cache_miss"],
           "aot_hits": counters["aot_autograd"]["autograd_cache_hit"], "aot_misses": counters["aot_autograd"]["autograd_cache_miss"]}
