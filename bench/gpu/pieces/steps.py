"""Steps without a compiler: plain PyTorch eager as the reference, then CUDA graphs, then channels-last, in one run.

Options: `ways` ["plain"]: the reference alone.
"""

from __future__ import annotations

import time
from typing import Iterator

import torch

from ..context import Context, relative_error
from ..engine import Engine

SIZES = ((2, 1024, 1024), (1, 768, 1152))


def plain_module(context: Context) -> torch.nn.Module:
    """The same network as a user of diffusers has it: contiguous weights of its own, no arena."""
    from safetensors.torch import load_file

    spec, _ = context.sdxl()
    source = context.checkpoint()
    values = load_file(source.files[0].path)
    module = spec.build().to_empty(device=context.device).to(context.dtype).eval()
    layers = set(spec.config["layers_per_block"])
    if len(layers) == 1:
        module.register_to_config(layers_per_block=layers.pop())  # PEFT's scaling in diffusers wants a number
    state = {name: values[origin.parameter].to(context.dtype) for name, origin in spec.sources.items()}
    module.load_state_dict(state, strict=True)
    return module


def run(context: Context, options: dict) -> Iterator[dict]:
    spec, module = context.sdxl()[0], plain_module(context)
    inputs = {size: context.inputs(*size) for size in SIZES}
    reference = {}
    for size in SIZES:
        reference[size] = spec.forward(module, inputs[size]).clone()
        yield {"what": "plain eager", "size": list(size), **context.wall(lambda: spec.forward(module, inputs[size]), warm=3)}
    module = None  # its memory, for what follows
    if options.get("ways") == ["plain"]:
        return
    cuda = context.device.type == "cuda"
    for channels_last in (False, True):
        engine = Engine(context, "resident", channels_last=channels_last)
        label = {"channels_last": channels_last}
        for size in SIZES:
            figure = context.wall(lambda: engine.forward(inputs[size]), warm=3)
            yield {
                "what": "host eager",
                "size": list(size),
                **label,
                **figure,
                "error": relative_error(engine.forward(inputs[size]), reference[size]),
            }
        for benchmark in (False, True) if cuda else ():
            torch.backends.cudnn.benchmark = benchmark
            step = engine.graphed()
            for size in SIZES:
                began = time.perf_counter()
                output = step(inputs[size]).clone()
                context.sync()
                first = time.perf_counter() - began
                yield {
                    "what": "CUDA graph",
                    "size": list(size),
                    **label,
                    "cudnn_benchmark": benchmark,
                    "first_use_s": round(first, 2),
                    **context.wall(lambda: step(inputs[size]), warm=3),
                    "error": relative_error(output, reference[size]),
                }
        torch.backends.cudnn.benchmark = False
        engine = step = None  # its memory, for the next one
        if cuda:
            torch.cuda.empty_cache()
