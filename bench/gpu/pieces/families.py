"""Every family at real size with random weights made on the device: a step, a step as a CUDA graph, one swap and the way back.

Options: `names` (some of them), `compiled` (compiled blocks too), `swaps` (repeats of a swap). With --tiny only the narrowest, to try the piece itself.
"""

from __future__ import annotations

import gc
import re
import statistics
import time
from functools import partial
from typing import Callable, Iterator

import numpy as np
import torch
from refit_graphs.descriptions import typical
from refit_graphs.families import plan
from refit_host.files.delta import read_delta
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from refit_host.models.spec import ModelSpec
from refit_host.torch_engine.compiled import compile_blocks, steady
from refit_host.torch_engine.graphs import GraphedStep
from refit_host.weights.base import Base
from refit_host.weights.host_memory import host_arena
from refit_host.weights.image import read_image
from refit_host.weights.layout import Layout
from refit_host.weights.peaks import peak
from refit_host.weights.refit import Weights
from refit_host.weights.stream import Ring

from .. import data
from ..context import Context, relative_error
from ..structures import FAMILIES, IN_PLAN, PAIRS

RANK = 8
# There and back, so many times.
CHANGES = 2


def random_base(layout: Layout, ring: Ring, seed: int) -> Base:
    """A resident base of random values. It has no file behind it."""
    arena = torch.zeros(layout.nbytes, dtype=torch.uint8, device=ring.device)
    make = torch.Generator(ring.device).manual_seed(seed)
    peaks = []
    for slot in layout.slots:
        slot.put(arena, data.random_value(slot.name, slot.shape, ring.device, make))
        peaks.append(peak(slot.physical(arena)))
    return Base("resident", layout, None, ring, arena, torch.stack(peaks).cpu().numpy().astype(np.float32))


def random_weights(layout: Layout, device: torch.device) -> Weights:
    """Weights on the device that such a base is behind."""
    ring = Ring(device)
    weights = Weights(layout, device, ring)
    weights.base = random_base(layout, ring, 1)
    weights.live.copy_(weights.base.arena)
    weights.known = True
    return weights


def in_host_memory(base: Base) -> Base:
    """A copy of a resident base that waits in (pinned) host memory."""
    arena = host_arena(base.layout.nbytes, base.ring.device)
    arena.copy_(base.arena)
    return Base("pinned", base.layout, None, base.ring, arena, base.peaks)


def _parts(layout: Layout) -> Iterator[slice]:
    """Of an arena, slot by slot: what lies between slots is nobody's, and the whole at once would need as much memory again."""
    return (slice(slot.offset, slot.offset + slot.nbytes) for slot in layout.slots)


def same(part: torch.Tensor) -> torch.Tensor:
    return part


def negated(part: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Every value with the other sign: other weights, as large and as finite. Twice gives the same bits again."""
    return part.view(dtype).neg().view(torch.uint8)


def equal_bits(layout: Layout, live: torch.Tensor, other: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor] = same) -> bool:
    """Whether `live` holds the bits of `other` after `change`; compared where `live` lies."""
    return all(torch.equal(live[part], change(other[part])) for part in _parts(layout))


def step_inputs(
    spec: ModelSpec, shapes: dict[str, tuple[int, ...]], sizes: dict[str, int], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    make = torch.Generator().manual_seed(1)
    values = {}
    for port in spec.ports.inputs if spec.ports is not None else [item.described() for item in plan(dict(shapes)).inputs]:
        if port.get("optional"):
            continue
        value = torch.randn([sizes.get(axis, axis) for axis in port["shape"]], generator=make)
        values[port["name"]] = value.to(device, dtype if port["dtype"] == "float" else torch.float32)
    usual = {"timestep": 501.0, "guidance": 4.0}
    for name in values:
        number = typical(spec.family, name)
        number = usual.get(name) if number is None else number
        if number is not None:
            values[name] = torch.full_like(values[name], number)
    return values


def _one(context: Context, name: str, options: dict) -> Iterator[dict]:
    began = time.perf_counter()
    make_shapes, sizes = FAMILIES[name]
    shapes, device = make_shapes(), context.device
    spec = spec_of(shapes)
    dtype = torch.float32 if device.type != "cuda" else torch.float16 if spec.ports is None else torch.bfloat16
    weights = random_weights(layout_of(spec, shapes, dtype, channels_last=False), device)
    layout = weights.layout
    module = bind(spec.build(), spec, layout, weights.live)
    built = time.perf_counter()
    inputs = step_inputs(spec, shapes, sizes, device, dtype)
    output = spec.forward(module, inputs).clone()
    context.sync()
    label = {
        "name": name,
        "family": spec.family,
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": sum(slot.count for slot in layout.slots),
    }
    row = {"what": "family", **label, "weights_gb": round(layout.nbytes / 1e9, 2), "build_s": round(built - began, 2),
           "first_step_s": round(time.perf_counter() - built, 2), "step": context.wall(lambda: spec.forward(module, inputs), repeats=5),
           "finite": bool(torch.isfinite(output).all())}  # fmt: skip
    layers = [
        layer
        for layer, shape in shapes.items()
        if len(shape) == 2 and re.search(r"(blocks|layers|refiner)\.", layer) and layer.endswith("weight")
    ]
    folder = context.folder / "families"
    folder.mkdir(exist_ok=True)
    path = data.adapter(folder, shapes, device, 50, RANK, layers=layers, stem=name)
    image = read_image(read_delta(path), layout, pinned=device.type == "cuda")
    swap = context.wall(lambda: weights.commit(weights.prepare([(image, 1.0)], full=True)), repeats=options.get("swaps", 3))
    changed = spec.forward(module, inputs)
    weights.commit(weights.prepare([]))
    again = spec.forward(module, inputs)
    row |= {"adapter_layers": len(layers), "adapter_mb": round(image.nbytes / 1e6), "swap_all_layers": swap, "adapter_changes_output_by": relative_error(changed, output),
            "back_to_base_weights_bit_identical": equal_bits(layout, weights.live, weights.base.arena),
            "back_to_base_output_bit_identical": bool(torch.equal(again, output))}  # fmt: skip
    if device.type == "cuda":
        graphs = GraphedStep(spec.forward, device)
        captured = graphs(module, inputs).clone()
        row |= {"graph_step": context.wall(lambda: graphs(module, inputs), repeats=5), "graph_error": relative_error(captured, output),
                "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)}  # fmt: skip
        if options.get("compiled"):
            graphs.release()
            row["compiled"] = compiled(context, spec, bind(spec.build(), spec, layout, weights.live), inputs, output)
    yield {**row, "seconds": round(time.perf_counter() - began, 1)}
    if name in PAIRS:
        yield {"what": "two checkpoints on one structure", **label, **pair(context, weights, lambda: spec.forward(module, inputs))}


def pair(context: Context, weights: Weights, step: Callable[[], torch.Tensor]) -> dict:
    """High and low noise: the whole checkpoint changes between two steps, and comes back. `weights`: with a resident base, live values pristine.

    The base waits in host memory, as the host itself places it where two copies and a step do not fit on the card. The other checkpoint is the first with all signs changed,
    in the same memory: making it is not timed, what a change then does is. The first one's values stay on the device for comparison.
    """
    witness, layout, dtype = weights.base.arena, weights.layout, weights.layout.slots[0].dtype
    opposite = partial(negated, dtype=dtype)
    began = time.perf_counter()
    weights.base = in_host_memory(weights.base)
    pinned = time.perf_counter()
    arena = weights.base.arena

    def change() -> float:
        """To the other checkpoint."""
        for part in _parts(layout):
            arena[part].copy_(opposite(arena[part].to(context.device, non_blocking=True)), non_blocking=True)
        return context.wall(lambda: weights.commit(weights.prepare([], full=True)), repeats=1, warm=0)["median_ms"]

    clean = step().clone()
    times, other, seen = [], None, []
    for _ in range(CHANGES):
        times.append(change())
        now = step().clone()
        other = now if other is None else other
        seen.append(equal_bits(layout, weights.live, witness, opposite) and torch.equal(now, other))
        times.append(change())
        seen.append(equal_bits(layout, weights.live, witness) and torch.equal(step(), clean))
    return {
        "base": weights.base.place,
        "pin_s": round(pinned - began, 2),
        "change_median_ms": round(statistics.median(times), 1),
        "change_max_ms": max(times),
        "n": len(times),
        "second_checkpoint": "the first with all signs changed",
        "outputs_differ_by": relative_error(other, clean),
        "finite": bool(torch.isfinite(other).all()),
        "weights_and_outputs_bit_identical": all(seen),
        "seconds": round(time.perf_counter() - began, 1),
    }


def compiled(context: Context, spec: ModelSpec, module: torch.nn.Module, inputs: dict[str, torch.Tensor], plain: torch.Tensor) -> dict:
    """The same step with the repeated blocks compiled, inside a CUDA graph, as the host serves it when its background build is done."""
    began = time.perf_counter()
    blocks = compile_blocks(module, spec.repeated)
    output = spec.forward(module, inputs).clone()
    context.sync()
    built, graphs = time.perf_counter() - began, GraphedStep(spec.forward, context.device)
    with steady():
        return {
            "blocks": blocks,
            "build_s": round(built, 1),
            "step": context.wall(lambda: graphs(module, inputs), repeats=5),
            "error": relative_error(output, plain),
        }


def run(context: Context, options: dict) -> Iterator[dict]:
    for name in options.get("names", ["sd15"] if context.tiny else IN_PLAN):
        try:
            yield from _one(context, name, options)
        except Exception as error:  # one structure's failure must not hide the others
            yield {"what": "family", "name": name, "failed": f"{type(error).__name__}: {error}"[:600]}
        gc.collect()  # a module and its hooks know each other
        if context.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
