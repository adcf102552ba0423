"""A LoRA swap on Flux of real size, bf16 and fp8: rank 16 on all 304 matrices of the blocks, base resident; there and back bit for bit.

fp8 merges in f32 and quantises again at every swap. Options: {"kinds": ["bf16", "fp8", "nvfp4"], "merge": "auto"}.
"""

from __future__ import annotations

from typing import Iterator

import torch
from refit_host.files.delta import read_delta
from refit_host.models.bind import bind
from refit_host.quant.choose import quantised_layers
from refit_host.quant.encode import encode_into, has_kernel
from refit_host.quant.formats import FORMATS
from refit_host.weights.image import read_image
from refit_host.weights.refit import Weights
from refit_host.weights.stream import Ring

from .. import data
from ..context import Context, relative_error
from ..flux import Flux
from .quant_flux import quant_engine

LABEL = {"bf16": {}, "fp8": {}, "nvfp4": {"note": "stored and dequantised; no hardware product was run"}}


def _engine(flux: Flux, kind: str, merge: str) -> tuple[Weights, torch.nn.Module]:
    device = flux.context.device
    if kind == "bf16":
        weights = Weights(flux.layout, device, Ring(device), merge=merge)
        weights.base, weights.known = flux.base(), True
        weights.live.copy_(flux.arena)
        return weights, bind(flux.spec.build(), flux.spec, flux.layout, weights.live)
    engine = quant_engine(flux, kind, coded=False, merge=merge)
    return engine.weights, engine.make()


def _digest(live: torch.Tensor) -> int:
    """A sum over all bits, position by position."""
    total = 0
    index = torch.arange(1, 1 + (1 << 24), device=live.device)
    for begin in range(0, live.numel(), 1 << 24):
        part = live[begin : begin + (1 << 24)].long()
        total = (total * 1000003 + int((part * index[: part.numel()]).sum())) & ((1 << 63) - 1)
    return total


def _encode(context: Context) -> dict:
    """The kernel that quantises, alone: one large matrix."""
    rows, cols = (21504, 3072) if not context.tiny else (64, 64)
    form, value = FORMATS["fp8"], torch.randn(rows, cols, device=context.device)
    parts = form.encode(value)
    again = {name: torch.empty_like(tensor) for name, tensor in parts.items()}
    encode_into(form, value, again)
    same = all(torch.equal(parts[name].view(torch.uint8), again[name].view(torch.uint8)) for name in parts)
    return {
        "what": "flux quantise one matrix",
        "shape": [rows, cols],
        "kernel": has_kernel("fp8", context.device),
        "equals_reference": same,
        **context.wall(lambda: encode_into(form, value, again)),
        "reference": context.wall(lambda: form.encode(value)),
    }


def _measure(context: Context, flux: Flux, kind: str, options: dict) -> Iterator[dict]:
    weights, module = _engine(flux, kind, options.get("merge", "auto"))
    label = {"kind": kind, "merge": weights.merge_name, **LABEL[kind]}
    inputs = flux.inputs(side=512)
    paths = [data.adapter(context.folder, flux.shapes, context.device, seed, 16) for seed in (31, 32)]
    images = [read_image(read_delta(path), weights.layout, pinned=context.device.type == "cuda") for path in paths]
    one, two = [(images[0], 1.0)], [(images[1], 0.8)]
    yield {"what": "flux weights", **label, "live_gb": round(weights.weight_bytes / 1e9, 2), "matrices_in_adapter": len(images[0].every)}
    clean, output = _digest(weights.live), flux.forward(module, inputs).clone()
    swap = lambda stack: weights.commit(weights.prepare(stack))  # noqa: E731
    swap(one)
    with_one, changed = _digest(weights.live), flux.forward(module, inputs).clone()
    turns = iter([two, one] * 10_000)
    yield {"what": "flux swap", **label, **context.wall(lambda: swap(next(turns)), repeats=10, warm=2)}
    swap(two)
    swap(one)
    yield {
        "what": "flux A to B to A",
        **label,
        "bit_identical": _digest(weights.live) == with_one,
        "output_identical": bool(torch.equal(flux.forward(module, inputs), changed)),
        "adapter_changes_output_by": relative_error(changed, output),
    }
    states = iter([[], one] * 10_000)
    yield {"what": "flux to base and back to the adapter, each", **label, **context.wall(lambda: swap(next(states)), repeats=10, warm=2)}
    swap([])
    yield {
        "what": "flux back to base",
        **label,
        "bit_identical": _digest(weights.live) == clean,
        "output_identical": bool(torch.equal(flux.forward(module, inputs), output)),
    }
    if context.device.type == "cuda":
        yield {"what": "flux memory", **label, "peak_allocated_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)}


def run(context: Context, options: dict) -> Iterator[dict]:
    yield _encode(context)
    flux = Flux(context)
    layers = quantised_layers(flux.spec.build(), flux.spec, flux.shapes, FORMATS["fp8"])
    yield {"what": "flux quantised layers", "layers": len(layers)}
    for kind in options.get("kinds", ["bf16", "fp8"]):
        try:
            yield from _measure(context, flux, kind, options)
        except Exception as error:  # one kind that fails must not hide the others
            yield {"what": "flux swap", "kind": kind, "failed": f"{type(error).__name__}: {error}"[:600]}
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
