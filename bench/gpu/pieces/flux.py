"""A Flux dev step of real size (1024 px, 512 text tokens, batch 1): plain diffusers eager against the host's ways, one after the other.

Options: {"modes": [...]} some of MODES; {"profile": true} also lists the kernels of a step; {"dynamic": true} compiles for all sizes.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Callable, Iterator

import torch
from refit_host.fused import operations, use_fused_blocks
from refit_host.quant.bind import replace_linears
from refit_host.quant.choose import quantised_layers
from refit_host.quant.formats import FORMATS
from refit_host.torch_engine.compiled import compile_blocks
from refit_host.torch_engine.graphs import GraphedStep
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..context import Context, relative_error
from ..flux import Flux

# name: (module, attention, compile?, CUDA graph?)
MODES = {
    "plain eager": ("plain", "default", False, False),
    "plain graph": ("plain", "default", False, True),
    "host eager": ("host", "default", False, False),
    "host graph": ("host", "cudnn", False, True),
    "bf16 compiled": ("host", "cudnn", True, True),
    "bf16 fused": ("host fused", "cudnn", False, True),
    "bf16 compiled, default attention": ("host", "default", True, True),
    "fp8 graph": ("rowwise", "cudnn", False, True),
    "fp8 rowwise compiled": ("rowwise", "cudnn", True, True),
    "fp8 fused": ("rowwise fused", "cudnn", False, True),
    "fp8 unit compiled": ("unit", "cudnn", True, True),
}
SIZE = {"side": 1024, "tokens": 512, "batch": 1}


@contextmanager
def attention(name: str) -> Iterator[None]:
    """Which attention kernel PyTorch takes. `cudnn`: cuDNN's before the others."""
    if name == "default" or not torch.cuda.is_available():
        yield
        return
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        yield


class Modules:
    """Modules over the same weights, built when first wanted; quantised weights are made once."""

    def __init__(self, flux: Flux) -> None:
        self._flux = flux
        self._parts: dict[str, dict[str, torch.Tensor]] = {}

    def get(self, kind: str) -> torch.nn.Module:
        flux = self._flux
        if kind.endswith(" fused"):
            return use_fused_blocks("two_streams", self.get(kind.removesuffix(" fused")), operations(flux.context.device))
        if kind in ("plain", "host"):
            return flux.plain() if kind == "plain" else flux.module()
        form = FORMATS["fp8"]
        module = flux.module()
        layers = quantised_layers(module, flux.spec, flux.shapes, form)
        way = kind if flux.context.device.type == "cuda" else "dequantise"
        return replace_linears(module, layers, lambda name: (self._encoded(name), 0, None), form, way)

    def _encoded(self, parameter: str) -> dict[str, torch.Tensor]:
        if parameter not in self._parts:
            self._parts[parameter] = FORMATS["fp8"].encode(self._flux.layout.by_name[parameter].physical(self._flux.arena))
        return self._parts[parameter]


def kernels(context: Context, work: Callable[[], object], count: int = 40) -> list:
    """[name, microseconds, calls] of the longest kernels of one call."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA if context.device.type == "cuda" else ProfilerActivity.CPU]) as found:
        work()
        context.sync()
    time_of = lambda item: getattr(item, "self_device_time_total", 0) or item.self_cpu_time_total  # noqa: E731
    rows = sorted(found.key_averages(), key=time_of, reverse=True)[:count]
    return [[row.key[:110], round(time_of(row)), row.count] for row in rows]


def _measure(context: Context, flux: Flux, modules: Modules, mode: str, reference: torch.Tensor | None, options: dict) -> Iterator[dict]:
    kind, backend, compiles, graphs = MODES[mode]
    inputs = flux.inputs(SIZE["batch"], SIZE["side"], SIZE["tokens"])
    module = modules.get(kind)
    label = {"mode": mode, **SIZE}
    with attention(backend):
        if compiles:
            torch._dynamo.reset()
            label["dynamic"] = options.get("dynamic", False)
            label["blocks"] = compile_blocks(module, flux.spec.repeated, dynamic=options.get("dynamic", False))
        step = lambda: flux.forward(module, inputs)  # noqa: E731
        if graphs and context.device.type == "cuda":
            captured = GraphedStep(flux.forward, context.device)
            step = lambda: captured(module, inputs)  # noqa: E731
        context.sync()
        began, before = time.perf_counter(), counters["stats"]["unique_graphs"]
        output = step().clone()
        context.sync()
        if compiles:
            label["compilations"] = counters["stats"]["unique_graphs"] - before
        yield {"what": "flux first call", **label, "seconds": round(time.perf_counter() - began, 1)}
        row = {"what": "flux step", **label, **context.wall(step, repeats=options.get("repeats", 15), warm=3)}
        if reference is not None:
            row["error"] = relative_error(output, reference)
        if context.device.type == "cuda":
            row |= {"peak_allocated_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)}
        yield row
        if options.get("profile"):
            yield {"what": "flux kernels", **label, "kernels": kernels(context, step)}


def run(context: Context, options: dict) -> Iterator[dict]:
    flux = Flux(context)
    modules = Modules(flux)
    with attention("default"):
        reference = flux.forward(flux.plain(), flux.inputs()).clone()
    yield {
        "what": "flux output",
        "finite": bool(torch.isfinite(reference).all()),
        "std": float(reference.float().std()),
        "weight_bytes": flux.layout.nbytes,
    }
    for mode in options.get("modes", list(MODES)):
        try:
            yield from _measure(context, flux, modules, mode, reference, options)
        except Exception as error:  # one way that fails must not hide the others
            yield {"what": "flux step", "mode": mode, "failed": f"{type(error).__name__}: {error}"[:600]}
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
