"""Quantised engines on Flux dev of real size, as the host puts them together: swaps that merge and quantise in one launch, steps with no adapter, a merged one, branches beside
every layer, and both; beside bf16 and what exists (PEFT's unmerged adapter, torch.compile with hotswap).

Options: `kinds` (["bf16", "fp8", "int8"]), `blocks` (tiles of the kernel to try), `double`, `single` (blocks of the model), `peers` (true), `side` (1024); `family`: another of
bench/gpu/structures.py in the place of Flux, without peers.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Callable, Iterator

import numpy as np
import torch
from refit_host.files.checkpoint import CheckpointSource, ParameterSource, Piece
from refit_host.files.delta import read_delta
from refit_host.files.storage import Storage
from refit_host.fused import operations
from refit_host.models.bind import layout_of
from refit_host.models.registry import spec_of
from refit_host.quant.base import QuantBase
from refit_host.quant.encode import has_merge
from refit_host.quant.formats import FORMATS
from refit_host.quant.placing import QuantEngine
from refit_host.torch_engine.builder import tolerance_of
from refit_host.torch_engine.fused import fused_module
from refit_host.torch_engine.graphs import GraphedStep
from refit_host.weights.image import DeltaImage, read_image
from refit_host.weights.peaks import peak
from refit_host.weights.refit import Weights
from refit_host.weights.stream import Ring

from .. import data
from .. import flux as sizes
from ..context import Context, relative_error
from ..flux import Flux
from ..structures import FAMILIES
from .families import random_base, step_inputs

# Tiles of the kernel that are tried: rows, columns, warps, tiles of a program. The first is the host's own.
BLOCKS = [[64, 128, 4, 8], [64, 64, 4, 8]]
CONTAINERS = {"fp8": "F8_E4M3", "int8": "I8"}


class Family(Flux):
    """A family of another kind in the place of Flux."""

    def __init__(self, context: Context, name: str) -> None:
        make_shapes, self.step_sizes = FAMILIES[name]
        self.context, self.shapes = context, make_shapes()
        self.spec = spec_of(self.shapes)
        self.layout = layout_of(self.spec, self.shapes, torch.bfloat16, channels_last=False)
        self.arena = random_base(self.layout, Ring(context.device), 11).arena

    def products(self) -> list[str]:
        """As Flux has them: the large matrices of the blocks."""
        return [
            name
            for name, shape in self.shapes.items()
            if len(shape) == 2 and min(shape) >= 256 and all(size % 16 == 0 for size in shape) and re.search(r"(blocks|layers|refiner)\.", name)
            and name.endswith("weight") and not re.search(r"mod|adaLN|norm|embed", name)
        ]  # fmt: skip

    def forward(self, module: torch.nn.Module, inputs: dict) -> torch.Tensor:
        return self.spec.forward(module, inputs)

    def inputs(self, **small: int) -> dict[str, torch.Tensor]:
        sizes = {axis: max(1, size // 4) for axis, size in self.step_sizes.items()} if small.get("tokens") == 64 else self.step_sizes
        return step_inputs(self.spec, self.shapes, sizes, self.context.device, torch.bfloat16)


def _source(flux: Flux, kind: str | None) -> CheckpointSource:
    """What the sidecar would say of a file with these weights: the matrices of the blocks in `kind` (None: all bf16). No such file is read here."""
    rows, products = {}, frozenset(flux.products())
    for name, shape in flux.shapes.items():
        coded = kind is not None and name in products
        storage = Storage("scaled", f"{name}_scale") if coded else None
        rows[name] = ParameterSource(
            shape, (Piece(0, name, CONTAINERS[kind] if coded else "BF16", 0, shape[0] if shape else 1, False, storage),)
        )
    return CheckpointSource((), rows)


def quant_engine(flux: Flux, kind: str, *, coded: bool, merge: str = "auto") -> QuantEngine:
    """An engine with a resident base: the matrices' own codes (`coded`), or bf16."""
    device, source = flux.context.device, _source(flux, kind if coded else None)
    engine = QuantEngine(flux.spec, flux.shapes, kind, source, device, Ring(device), channels_last=False, room=1 << 60, merge=merge)
    weights = engine.weights
    reader = SimpleNamespace(source=source, check_unchanged=lambda: None)
    base = QuantBase("resident", weights.layout, weights.stored, reader, Ring(device), None, np.zeros(0, np.float32))
    base.arena = torch.empty(base.held.nbytes, dtype=torch.uint8, device=device)
    peaks = []
    for slot in weights.layout.slots:
        value = flux.layout.by_name[slot.name].physical(flux.arena)
        peaks.append(peak(value))
        if slot.index in base.held.coded:
            parts = weights.stored.form.encode(value)
            for name, part in base.codes(slot).items():
                part.copy_(parts[name])
            base.note_steps(slot, parts)
        else:
            base.floats(slot).copy_(value)
    base.peaks = torch.stack(peaks).cpu().numpy()
    weights.adopt(base)
    return engine


def _images(flux: Flux, weights: Weights, rank: int, count: int) -> list[DeltaImage]:
    context = flux.context
    paths = [
        data.adapter(
            context.folder,
            flux.shapes,
            context.device,
            seed,
            rank,
            layers=flux.products(),
            stem=f"quant-{flux.spec.family}-{len(flux.products())}",
        )
        for seed in range(41, 41 + count)
    ]
    return [read_image(read_delta(path), weights.layout, pinned=context.device.type == "cuda") for path in paths]


def _digest(live: torch.Tensor) -> int:
    total, index = 0, torch.arange(1, 1 + (1 << 24), device=live.device)
    for begin in range(0, live.numel(), 1 << 24):
        part = live[begin : begin + (1 << 24)].long()
        total = (total * 1000003 + int((part * index[: part.numel()]).sum())) & ((1 << 63) - 1)
    return total


@contextmanager
def _tiles(context: Context, blocks: tuple[int, ...]) -> Iterator[None]:
    if context.device.type != "cuda":
        yield
        return
    from refit_host.quant import merge_triton

    before = merge_triton.BLOCKS
    merge_triton.BLOCKS = blocks
    try:
        yield
    finally:
        merge_triton.BLOCKS = before


def _summary(losses: list[dict]) -> list[dict]:
    return [
        {key: round(row[key], 4) if isinstance(row[key], float) else row[key] for key in ("projection", "lostShare", "merged", "branched")}
        for row in losses
    ]


def _swaps(context: Context, weights: Weights, images: list[DeltaImage], label: dict, **options) -> Iterator[dict]:
    """One adapter, five, and the way back; what each half of a swap takes."""
    swap = lambda stack: weights.commit(weights.prepare(stack, **options))  # noqa: E731
    one, two, five = [(images[0], 1.0)], [(images[1], 0.8)], [(image, 0.4) for image in images[:5]]
    clean = _digest(weights.live)
    swap(one)
    turns = iter([two, one] * 10_000)
    yield {"what": "swap", **label, **context.wall(lambda: swap(next(turns)), repeats=10, warm=2)}
    yield {"what": "prepare", **label, **context.wall(lambda: weights.prepare(one, **options), repeats=10, warm=2)}
    turns = iter([five, one] * 10_000)
    yield {"what": "to a stack of five and to one, each", **label, **context.wall(lambda: swap(next(turns)), repeats=10, warm=2)}
    turns = iter([[], one] * 10_000)
    yield {"what": "to base and to one, each", **label, **context.wall(lambda: swap(next(turns)), repeats=10, warm=2)}
    swap(one)
    losses = _summary(weights.losses)
    first = _digest(weights.live)
    swap(five)
    swap(one)
    again = _digest(weights.live)
    swap([])
    yield {
        "what": "there and back",
        **label,
        "A_to_B_to_A_bit_identical": again == first,
        "base_bit_identical": _digest(weights.live) == clean,
        "losses_of_one": losses,
    }


def _against_reference(flux: Flux, kind: str, coded: bool) -> dict:
    """The kernel's codes of one matrix under two products against the format's own arithmetic."""
    engine = quant_engine(flux, kind, coded=coded)
    weights, form = engine.weights, FORMATS[kind]
    images = _images(flux, weights, 16, 2)
    stack = [(images[0], 1.0), (images[1], -0.7)]
    slot = next(slot for slot in weights.layout.slots if slot.index in weights.stored.coded)
    ((_, value, codes),) = weights.base.each([slot])
    before = codes or form.encode(value)
    weights.commit(weights.prepare(stack, loss=1.0))
    merged = value.clone()
    for image, strength in stack:
        (term,) = image.every[slot.index]
        factors = {role: image.factor(name, image.factors).float().to(value.device) for role, name in term.factors.items()}
        merged += strength * term.scale * (factors["up"] @ factors["down"])
    expected, got = form.encode(merged, before), weights.stored.parts(slot, weights.live)
    same = (got["codes"].view(torch.uint8) == expected["codes"].view(torch.uint8)).float().mean()
    far = ((form.decode(got) - form.decode(expected)).abs() / form.steps(expected)).max()
    return {"what": "kernel against reference", "kind": kind, "base": "codes" if coded else "bf16", "kernel": has_merge(kind, flux.context.device),
            "codes_equal": float(same), "farthest_in_steps": float(far), "losses": _summary(weights.losses)}  # fmt: skip


def _stepper(context: Context, flux: Flux, make: Callable[[], torch.nn.Module]) -> tuple[torch.nn.Module, Callable, str | None]:
    """Fused blocks in a CUDA graph, as the host steps Flux. The reason where they are not used."""
    if context.device.type != "cuda":
        module = make()
        return module, lambda inputs: flux.forward(module, inputs), "no GPU"
    probe = {name: value.to(context.device) for name, value in flux.inputs(side=256, tokens=64).items()}
    module, reason = fused_module(flux.spec, make, operations(context.device), probe, tolerance_of(torch.bfloat16, quantised=True))
    module = module or make()
    graphs = GraphedStep(flux.spec.forward, context.device)
    return module, lambda inputs: graphs(module, inputs), reason


def _steps(context: Context, flux: Flux, kind: str, inputs: dict) -> Iterator[dict]:
    label = {"kind": kind}
    if kind == "bf16":
        _, step, reason = _stepper(context, flux, flux.module)
        yield {"what": "step", **label, "stack": "none", "reason": reason, **context.wall(lambda: step(inputs), warm=3)}
        return
    engine = quant_engine(flux, kind, coded=True)
    weights = engine.weights
    narrow, wide = _images(flux, weights, 16, 5), _images(flux, weights, 64, 1)
    swap = lambda stack, **options: weights.commit(weights.prepare(stack, **options))  # noqa: E731
    _, plain, reason = _stepper(context, flux, engine.make)
    yield {"what": "step", **label, "stack": "none", "way": engine.way, "reason": reason, **context.wall(lambda: plain(inputs), warm=3)}
    base = plain(inputs).clone()
    swap([(narrow[0], 1.0)], loss=1.0)
    yield {
        "what": "step",
        **label,
        "stack": "one, merged",
        "losses": _summary(weights.losses),
        **context.wall(lambda: plain(inputs), warm=3),
    }
    swap([(narrow[0], 1.0)], loss=0.0)
    small = [(narrow[0], 0.05)]
    swap(small)
    module, beside, reason = _stepper(context, flux, engine.make_branched)
    yield {
        "what": "step",
        **label,
        "stack": "rank 16 beside every layer",
        "reason": reason,
        "losses": _summary(weights.losses),
        **context.wall(lambda: beside(inputs), warm=3),
    }
    alone = beside(inputs).clone()
    turns = iter([[(narrow[1], 0.05)], small] * 10_000)
    yield {"what": "swap of branches", **label, **context.wall(lambda: swap(next(turns)), repeats=10, warm=2)}
    swap([(wide[0], 0.05)])
    yield {
        "what": "step",
        **label,
        "stack": "rank 64 beside every layer",
        "variant": weights.branches.variant,
        "losses": _summary(weights.losses),
        **context.wall(lambda: beside(inputs), warm=3),
    }
    swap([(narrow[0], 20.0), (narrow[1], -20.0), *((image, 0.05) for image in narrow[2:5])])
    yield {
        "what": "step",
        **label,
        "stack": "five: two merged, three beside",
        "losses": _summary(weights.losses),
        **context.wall(lambda: beside(inputs), warm=3),
    }
    swap(small)
    same = torch.equal(beside(inputs), alone)
    swap([])
    back = torch.equal(plain(inputs), base)
    yield {
        "what": "branches there and back",
        **label,
        "same_branch_same_output": same,
        "base_output_bit_identical": back,
        "branch_changes_output_by": relative_error(alone, base),
        "branch_gb": round(weights.branches.nbytes / 1e9, 3),
    }


def _peers(context: Context, flux: Flux, inputs: dict) -> Iterator[dict]:
    def state(module: torch.nn.Module, rank: int, seed: int) -> dict[str, torch.Tensor]:
        make, out = torch.Generator(context.device).manual_seed(seed), {}
        for name, child in module.named_modules():
            if isinstance(child, torch.nn.Linear) and "transformer_blocks." in name and "norm" not in name:
                out[f"{name}.lora_A.weight"] = (
                    (torch.randn(rank, child.in_features, device=context.device, generator=make) * 0.01).bfloat16().cpu()
                )
                out[f"{name}.lora_B.weight"] = (
                    (torch.randn(child.out_features, rank, device=context.device, generator=make) * 0.01).bfloat16().cpu()
                )
        return out

    for rank in (16, 64):
        module = flux.plain()
        if rank == 16:
            yield {
                "what": "peer step",
                "way": "diffusers eager, no adapter",
                **context.wall(lambda module=module: flux.forward(module, inputs), warm=2),
            }
        module.load_lora_adapter(state(module, rank, 1), prefix=None, adapter_name="a")
        yield {
            "what": "peer step",
            "way": f"PEFT unmerged rank {rank}, eager",
            **context.wall(lambda module=module: flux.forward(module, inputs), warm=2),
        }
        del module
    module = flux.plain()
    module.enable_lora_hotswap(target_rank=64)
    module.load_lora_adapter(state(module, 16, 1), prefix=None, adapter_name="a")
    module.compile_repeated_blocks(fullgraph=True)
    began = time.perf_counter()
    flux.forward(module, inputs)
    context.sync()
    yield {"what": "peer first compiled call", "seconds": round(time.perf_counter() - began, 1)}
    yield {
        "what": "peer step",
        "way": "torch.compile and hotswap, rank 16 of 64",
        **context.wall(lambda: flux.forward(module, inputs), warm=2),
    }


def run(context: Context, options: dict) -> Iterator[dict]:
    if not context.tiny:
        sizes.REAL = (*sizes.REAL[:2], options.get("double", sizes.REAL[2]), options.get("single", sizes.REAL[3]), *sizes.REAL[4:])
    family = options.get("family")
    flux = Flux(context) if family is None else Family(context, family)
    inputs = flux.inputs(side=options.get("side", 1024))
    cuda = context.device.type == "cuda"
    kinds = options.get("kinds", ["bf16", "fp8", "int8"])
    label = {"double": flux.sizes[2], "single": flux.sizes[3]} if family is None else {"family": family, "layers": len(flux.products())}

    def guarded(rows: Iterator[dict]) -> Iterator[dict]:
        try:
            for row in rows:
                yield {**row, **label}
        except Exception as error:  # one part that fails must not hide the others
            yield {"what": "failed", **label, "error": f"{type(error).__name__}: {error}"[:600]}
        if cuda:
            torch.cuda.empty_cache()

    for kind in kinds:
        if kind != "bf16":
            for coded in (False, True):
                yield from guarded(iter([_against_reference(flux, kind, coded)]) if cuda or coded else iter(()))
    if "bf16" in kinds:
        weights = Weights(flux.layout, context.device, Ring(context.device))
        weights.base, weights.known = flux.base(), True
        weights.live.copy_(flux.arena)
        yield from guarded(_swaps(context, weights, _images(flux, weights, 16, 5), {"kind": "bf16"}))
        del weights
    for kind in kinds:
        for coded in (False, True) if kind != "bf16" else ():
            engine = quant_engine(flux, kind, coded=coded)
            images = _images(flux, engine.weights, 16, 5)
            for blocks in options.get("blocks", BLOCKS if not coded and cuda else BLOCKS[:1]):
                with _tiles(context, tuple(blocks)):
                    yield from guarded(
                        _swaps(
                            context, engine.weights, images, {"kind": kind, "base": "codes" if coded else "bf16", "tiles": blocks}, loss=1.0
                        )
                    )
            del engine, images
            if cuda:
                torch.cuda.empty_cache()
    for kind in kinds:
        yield from guarded(_steps(context, flux, kind, inputs))
    if options.get("peers", family is None):
        yield from guarded(_peers(context, flux, inputs))
