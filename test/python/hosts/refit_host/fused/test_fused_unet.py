"""Fused UNets against diffusers' own over the same weights: every family, size, batch, ControlNet residuals, refits between steps."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from engines import CPU
from graph_structures import tiny_shapes
from refit_graphs.families import plan
from refit_host.files.checkpoint import CheckpointReader
from refit_host.fused import use_fused_blocks
from refit_host.fused.maps import Groups, PlainMapOperations, Time, channels_last, map_of, rows_of
from refit_host.fused.passes import PlainOperations
from refit_host.fused.stacked import neighbours, products, stacked
from refit_host.fused.unet import Resnet, Transformer, UNet
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from refit_host.quant.linear import QuantLinear
from refit_host.quant.placing import QuantEngine
from refit_host.torch_engine.builder import COARSE_TOLERANCE
from refit_host.torch_engine.fused import fused_module
from refit_host.weights.stream import Ring
from transformer_structures import random_weights

from bench.gpu import data

CASES = {
    "sd15": lambda: tiny_shapes("sd15", [32, 64, 64, 64]),
    "sdxl": lambda: tiny_shapes("sdxl", [64, 64, 128]),
    # Groups of 3 and 5 channels.
    "sdxl, odd groups": lambda: tiny_shapes("sdxl", [96, 96, 160]),
}


@cache
def values(case: str, seed: int) -> dict[str, torch.Tensor]:
    return random_weights(CASES[case](), seed=seed)


class Bound:
    def __init__(self, case: str, dtype: torch.dtype = torch.float32, *, last: bool = True) -> None:
        self.case, self.shapes = case, CASES[case]()
        self.spec = replace(spec_of(self.shapes), fuse=partial(use_fused_blocks, "unet"))
        self.layout = layout_of(self.spec, self.shapes, dtype, channels_last=last)
        self.arena = torch.zeros(self.layout.nbytes, dtype=torch.uint8)
        self.refit(1)

    def refit(self, seed: int) -> None:
        for name, value in values(self.case, seed).items():
            self.layout.by_name[name].put(self.arena, value)

    def make(self) -> torch.nn.Module:
        return bind(self.spec.build(), self.spec, self.layout, self.arena)

    def fused(self) -> torch.nn.Module:
        return self.spec.fuse(self.make(), PlainOperations())

    def inputs(
        self, batch: int = 2, height: int = 8, width: int = 12, words: int = 9, *, residuals: bool = False
    ) -> dict[str, torch.Tensor]:
        model = plan(dict(self.shapes))
        sizes = {"batch": batch, "tokens": words}
        for power in range(5):
            sizes |= {
                f"{axis}{f'_{2**power}' if power else ''}": -(-size // 2**power) for axis, size in (("height", height), ("width", width))
            }
        make = torch.Generator().manual_seed(5)
        ports = [*model.inputs, *(model.residuals if residuals else ())]
        values = {port.name: torch.randn([sizes.get(axis, axis) for axis in port.axes], generator=make) for port in ports}
        return values | {"timestep": torch.linspace(701.0, 33.0, batch)}


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("case", CASES)
def test_a_fused_unet_gives_what_diffusers_gives_for_every_size_batch_and_residual(case):
    bound = Bound(case)
    plain, fused = bound.make(), bound.fused()
    kinds = {type(child) for child in fused.modules()}
    assert {Resnet, Transformer, UNet} <= kinds and not kinds & {base for kind in (Resnet, Transformer, UNet) for base in kind.__mro__[1:2]}
    # The last has sides that no halving divides: the way up is told its sizes.
    sizes = [{"residuals": True}, {"batch": 3, "height": 16, "width": 8, "words": 77}, {"batch": 1, "height": 9, "width": 15, "words": 154}]
    for size in sizes:
        given = bound.inputs(**size)
        assert error(bound.spec.forward(fused, given), bound.spec.forward(plain, given)) < 4e-6


@pytest.mark.parametrize("case", ["sd15", "sdxl"])
def test_a_refit_between_two_steps_is_seen_and_there_and_back_gives_the_same_bits(case):
    bound = Bound(case)
    plain, fused, given, seen = bound.make(), bound.fused(), bound.inputs(), []
    for seed in (1, 2, 1):
        bound.refit(seed)
        seen.append(bound.spec.forward(fused, given))
        assert error(seen[-1], bound.spec.forward(plain, given)) < 4e-6
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


def test_other_words_on_the_same_memory_are_seen():
    bound = Bound("sdxl")
    plain, fused, given = bound.make(), bound.fused(), bound.inputs()
    first = bound.spec.forward(fused, given)
    given["encoder_hidden_states"].mul_(-1.5)
    assert error(bound.spec.forward(fused, given), first) > 1e-3
    assert error(bound.spec.forward(fused, given), bound.spec.forward(plain, given)) < 4e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_fused_unet_rounds_no_more_than_an_eager_one(dtype):
    exact = Bound("sdxl")
    bound, given = Bound("sdxl", dtype), exact.inputs(1, 8, 8)
    small = {name: value if name == "timestep" else value.to(dtype) for name, value in given.items()}
    expected = exact.spec.forward(exact.make(), given)
    assert error(bound.spec.forward(bound.fused(), small), expected) < 1.1 * error(bound.spec.forward(bound.make(), small), expected)


def test_fused_blocks_serve_an_engine_whose_kernels_are_not_channels_last():
    bound = Bound("sdxl", last=False)
    module, reason = fused_module(bound.spec, bound.make, PlainOperations(), bound.inputs(), 1e-5)
    assert reason is None and isinstance(module, UNet)


def test_a_quantised_unet_steps_on_fused_blocks_too(tmp_path):
    bound = Bound("sd15")
    source = data.checkpoint(tmp_path, bound.shapes, CPU, 3)
    engine = QuantEngine(
        bound.spec, bound.shapes, "fp8", source, CPU, Ring(CPU), channels_last=True, room=1 << 40, merge="auto", rounding="nearest"
    )
    engine.weights.load("resident", CheckpointReader(source))
    plain, fused = engine.make(), bound.spec.fuse(engine.make(), PlainOperations())
    assert any(isinstance(child, QuantLinear) for child in fused.modules())
    given = {name: value if name == "timestep" else value.bfloat16() for name, value in bound.inputs(1, 8, 8).items()}
    assert error(bound.spec.forward(fused, given), bound.spec.forward(plain, given)) < COARSE_TOLERANCE


class Odd(PlainOperations):
    def norm_map(self, x, groups, **given):
        return super().norm_map(x, groups, **{**given, "silu": False})


def test_a_wrong_pass_leaves_the_plain_module():
    bound = Bound("sdxl")
    module, reason = fused_module(bound.spec, bound.make, Odd(), bound.inputs(), 0.02)
    assert module is None and "differs" in reason


def test_queries_keys_and_values_are_one_product_and_so_are_all_words():
    bound = Bound("sdxl")
    blocks = [block for child in bound.fused().modules() if isinstance(child, Transformer) for block in child.transformer_blocks]
    for block in blocks:
        looks = block.attn1
        assert sorted(map(len, neighbours([layer.weight for layer in (looks.to_q, looks.to_k, looks.to_v)]))) == [3]
    read = [layer.weight for block in blocks for layer in (block.attn2.to_k, block.attn2.to_v)]
    runs = neighbours(read)
    assert len(runs) == len({weight.shape for weight in read})
    assert sorted(index for run in runs for index in run) == list(range(len(read)))
    whole = stacked([read[index] for index in runs[0]])
    assert whole.untyped_storage().data_ptr() == bound.arena.untyped_storage().data_ptr()
    assert torch.equal(whole, torch.cat([read[index] for index in runs[0]]))


def test_layers_that_are_no_neighbours_or_more_than_a_matrix_multiply_on_their_own():
    rows = torch.randn(5, 8)
    both = torch.randn(3, 4, 8)
    layers = [torch.nn.Linear(8, 4, bias=False) for _ in range(3)]
    for layer, weight in zip(layers, (both[2], both[0], both[1].clone())):
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    assert neighbours([layer.weight for layer in layers]).count([1]) == 1
    expected = [layer(rows) for layer in layers]
    assert all(map(torch.allclose, products(layers, rows), expected))
    layers[1].register_forward_hook(lambda *_: torch.zeros(5, 4))
    layers[0].bias = torch.nn.Parameter(torch.ones(4))
    found = products(layers, rows)
    assert torch.equal(found[1], torch.zeros(5, 4)) and torch.allclose(found[0], expected[0] + 1)


@pytest.mark.parametrize("time", [Time(), Time(torch.randn(2, 6)), Time(None, torch.randn(2, 6), torch.randn(2, 6))])
def test_a_pass_over_a_map_is_the_norm_the_time_and_silu(time):
    x, bias, groups = torch.randn(2, 6, 3, 5), torch.randn(6), Groups(3, 1e-5, torch.randn(6), torch.randn(6))
    moved = x + bias[:, None, None] + (0 if time.added is None else time.added[:, :, None, None])
    expected = torch.nn.functional.group_norm(moved, 3, groups.weight, groups.bias, groups.eps)
    if time.scale is not None:
        expected = expected * (1 + time.scale[:, :, None, None]) + time.shift[:, :, None, None]
    do = PlainMapOperations()
    assert error(do.norm_map(x, groups, bias=bias, time=time), torch.nn.functional.silu(expected)) < 1e-6
    assert error(do.norm_map(x, groups, bias=bias, time=time, silu=False), expected) < 1e-6
    assert torch.equal(map_of(rows_of(channels_last(x)), x), x)
