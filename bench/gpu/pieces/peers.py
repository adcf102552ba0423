"""The same swap and step with what exists: diffusers' LoRA hotswap on a compiled UNet, and PEFT's fuse and unfuse."""

from __future__ import annotations

import time
from typing import Iterator

import torch

from ..context import Context
from ..data import linear_layers
from .steps import SIZES, plain_module


def _state(context: Context, seed: int, names: dict[str, str], shapes: dict, rank: int = 16) -> dict[str, torch.Tensor]:
    """A diffusers state dict of random factors, on the CPU as a loaded file is."""
    make = torch.Generator(context.device).manual_seed(3000 + seed)
    out = {}
    for canonical in linear_layers(shapes):
        stem = names[canonical].removesuffix(".weight")
        rows, cols = shapes[canonical][:2]
        out[f"{stem}.lora_A.weight"] = (
            (torch.randn(rank, cols, device=context.device, generator=make) * (0.7 / cols**0.5)).to(context.dtype).cpu()
        )
        out[f"{stem}.lora_B.weight"] = (torch.randn(rows, rank, device=context.device, generator=make) * 0.025).to(context.dtype).cpu()
    return out


def run(context: Context, options: dict) -> Iterator[dict]:
    spec, shapes = context.sdxl()
    names = {source.parameter: name for name, source in spec.sources.items()}
    states = [_state(context, seed, names, dict(shapes)) for seed in (0, 1)]
    inputs = {size: context.inputs(*size) for size in SIZES}
    if options.get("fuse", True):
        yield from _fuse(context, spec, states, inputs)
    if options.get("hotswap", True):
        yield from _hotswap(context, spec, states, inputs, options)


def _fuse(context: Context, spec, states: list, inputs: dict) -> Iterator[dict]:
    module = plain_module(context)
    before = module.down_blocks[1].attentions[0].transformer_blocks[0].attn1.to_q.weight.detach().clone()
    for number, state in enumerate(states):
        began = time.perf_counter()
        module.load_lora_adapter(dict(state), prefix=None, adapter_name=f"a{number}")
        context.sync()
        yield {"what": "PEFT load adapter", "turn": number, "ms": round((time.perf_counter() - began) * 1000, 1)}

    def swap(name: str) -> None:
        module.unfuse_lora()
        module.set_adapters([name])
        module.fuse_lora(adapter_names=[name])

    module.set_adapters(["a0"])
    module.fuse_lora(adapter_names=["a0"])
    turns = iter(["a1", "a0"] * 1000)
    yield {"what": "PEFT unfuse and fuse, adapters loaded", **context.wall(lambda: swap(next(turns)), repeats=10)}
    size = SIZES[0]
    yield {"what": "step with fused adapter, eager", "size": list(size), **context.wall(lambda: spec.forward(module, inputs[size]), warm=2)}
    module.unfuse_lora()
    after = module.down_blocks[1].attentions[0].transformer_blocks[0].attn1.to_q.base_layer.weight
    yield {
        "what": "PEFT back to base",
        "bit_identical": bool(torch.equal(before, after)),
        "max_difference": float((before - after).abs().max()),
    }


def _hotswap(context: Context, spec, states: list, inputs: dict, options: dict) -> Iterator[dict]:
    module = plain_module(context).to(memory_format=torch.channels_last)
    module.enable_lora_hotswap(target_rank=16)
    module.load_lora_adapter(dict(states[0]), prefix=None, adapter_name="a")
    regional = options.get("regional", True)
    began = time.perf_counter()
    if regional:
        module.compile_repeated_blocks(fullgraph=True)
    else:
        module.compile()
    for size in SIZES if not regional else SIZES[:1]:
        first = time.perf_counter()
        spec.forward(module, inputs[size])
        context.sync()
        yield {
            "what": "hotswap: first compiled call",
            "regional": regional,
            "size": list(size),
            "seconds": round(time.perf_counter() - first, 1),
            "since_start_s": round(time.perf_counter() - began, 1),
        }
        yield {
            "what": "hotswap: step",
            "regional": regional,
            "size": list(size),
            **context.wall(lambda: spec.forward(module, inputs[size]), warm=2),
        }
    turns = iter([states[1], states[0]] * 1000)
    figure = context.wall(lambda: module.load_lora_adapter(dict(next(turns)), prefix=None, adapter_name="a", hotswap=True), repeats=10)
    yield {"what": "hotswap: swap one adapter", "regional": regional, **figure}
    yield {
        "what": "hotswap: step after swaps",
        "regional": regional,
        **context.wall(lambda: spec.forward(module, inputs[SIZES[0]]), warm=2),
    }
