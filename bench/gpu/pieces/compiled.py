"""The compiled tier, variant by variant: seconds until it serves, ms per step, error, and the same again after 100 swaps."""

from __future__ import annotations

import time
import traceback
from typing import Iterator

import torch

from refit_host.torch_engine.compiled import compile_blocks
from refit_host.torch_engine.graphs import GraphedStep

from ..context import Context, relative_error
from ..engine import Engine
from .steps import SIZES

VARIANTS: dict[str, dict] = {
    "blocks": {"classes": ["BasicTransformerBlock", "ResnetBlock2D"], "dynamic": None},
    "blocks-dynamic": {"classes": ["BasicTransformerBlock", "ResnetBlock2D"], "dynamic": True},
    "transformers": {"classes": ["BasicTransformerBlock"], "dynamic": True},
    "spatial": {"classes": ["Transformer2DModel", "ResnetBlock2D"], "dynamic": None},
    "whole": {"classes": ["UNet2DConditionModel"], "dynamic": None},
    "whole-dynamic": {"classes": ["UNet2DConditionModel"], "dynamic": True},
}


def _variant(context: Context, engine: Engine, name: str, setting: dict, reference: dict) -> Iterator[dict]:
    torch._dynamo.reset()
    engine.module = engine.fresh_module()
    cuda = context.device.type == "cuda"
    torch.backends.cudnn.benchmark = setting.get("cudnn_benchmark", False)
    began = time.perf_counter()
    options = {key: setting[key] for key in ("mode", "options", "fullgraph") if key in setting}
    blocks = compile_blocks(engine.module, setting["classes"], dynamic=setting["dynamic"], **options)
    step = GraphedStep(engine.forward, context.device) if cuda else engine.forward
    for size, (inputs, plain) in reference.items():
        first = time.perf_counter()
        output = step(inputs).clone()
        context.sync()
        label = {"variant": name, "size": list(size)}
        yield {"what": "first call", **label, "blocks": blocks, "seconds": round(time.perf_counter() - first, 1),
               "since_start_s": round(time.perf_counter() - began, 1), "error": relative_error(output, plain)}
        yield {"what": "step", **label, **context.wall(lambda: step(inputs), warm=3)}
    size, (inputs, plain) = next(iter(reference.items()))
    before = step(inputs).clone()
    one, two = [(context.adapter(0), 1.0)], [(context.adapter(1), 0.8)]
    for turn in range(100 if cuda else 2):
        engine.swap(one if turn % 2 else two)
    changed = relative_error(step(inputs), before)
    engine.swap([])
    after = context.wall(lambda: step(inputs), warm=3)
    yield {"what": "step after 100 swaps", "variant": name, "size": list(size), **after,
           "adapter_changes_output_by": changed, "base_output_bit_identical": bool(torch.equal(step(inputs), before))}
    if cuda:
        step.release()


def run(context: Context, options: dict) -> Iterator[dict]:
    engine = Engine(context, "resident")
    reference = {size: (inputs := context.inputs(*size), engine.forward(inputs).clone()) for size in SIZES}
    for name in options.get("variants", ["blocks", "blocks-dynamic"]):
        try:
            yield from _variant(context, engine, name, VARIANTS[name], reference)
        except Exception as error:
            traceback.print_exc()
            yield {"what": "variant", "variant": name, "failed": f"{type(error).__name__}: {error}"[:300]}
