"""Fused blocks against diffusers' own over the same weights; what each operation computes; the Triton kernels where Triton's interpreter is installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from family_structures import COMFYUI
from refit_host.fused import use_fused_blocks
from refit_host.fused.passes import Even, Modulation, PlainOperations, Update
from refit_host.fused.two_streams import joined
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from refit_host.quant.fp8 import CODE
from refit_host.torch_engine.builder import tolerance_of
from refit_host.torch_engine.fused import fused_module
from refit_host.torch_engine.model import TorchModel
from step_inputs import inputs_of
from transformer_structures import flux, random_weights


def modules(dtype: torch.dtype, structure: str = "flux-dev"):
    shapes = flux(structure)
    spec = spec_of(shapes)
    layout = layout_of(spec, shapes, dtype, channels_last=False)
    arena = torch.empty(layout.nbytes, dtype=torch.uint8)
    for name, value in random_weights(shapes).items():
        layout.by_name[name].put(arena, value)
    return spec, *(bind(spec.build(), spec, layout, arena) for _ in range(2))


def inputs(spec, batch: int, height: int = 16, width: int = 24, words: int = 9) -> dict[str, torch.Tensor]:
    make = torch.Generator().manual_seed(3)
    config = spec.config
    out = {
        "sample": torch.randn(batch, config["in_channels"] // 4, height, width, generator=make),
        "encoder_hidden_states": torch.randn(batch, words, config["joint_attention_dim"], generator=make),
        "y": torch.randn(batch, config["pooled_projection_dim"], generator=make), "timestep": torch.linspace(0.7, 0.2, batch),
    }  # fmt: skip
    return out | ({"guidance": torch.full((batch,), 3.5)} if config["guidance_embeds"] else {})


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("structure", ["flux-dev", "flux-schnell"])
@pytest.mark.parametrize("batch", [1, 2])
def test_fused_blocks_give_what_diffusers_blocks_give(structure, batch):
    spec, plain, fused = modules(torch.float32, structure)
    use_fused_blocks("two_streams", fused, PlainOperations())
    for size in ({}, {"height": 20, "width": 8, "words": 3}):
        given = inputs(spec, batch, **size)
        assert error(spec.forward(fused, given), spec.forward(plain, given)) < 2e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_blocks_round_less_than_eager_ones(dtype):
    spec, exact, _ = modules(torch.float32)
    _, plain, fused = modules(dtype)
    use_fused_blocks("two_streams", fused, PlainOperations())
    given = inputs(spec, 1)
    small = {name: value if name in ("timestep", "guidance") else value.to(dtype) for name, value in given.items()}
    expected = spec.forward(exact, given)
    assert error(spec.forward(fused, small), expected) < 1.2 * error(spec.forward(plain, small), expected)


FAMILIES = ("z-image", "qwen-image", "qwen-image-edit-2511", "wan21-t2v", "wan21-i2v", "wan22-5b", "wan21-vace")


@pytest.mark.parametrize("structure", FAMILIES)
def test_a_familys_fused_blocks_give_what_its_own_give_before_and_after_a_swap(structure):
    shapes = {name: shape for name, shape in COMFYUI[structure]().items() if 0 not in shape}
    spec = spec_of(COMFYUI[structure]())
    layout = layout_of(spec, shapes, torch.float32, channels_last=False)
    arena = torch.empty(layout.nbytes, dtype=torch.uint8)
    plain, fused = (bind(spec.build(), spec, layout, arena) for _ in range(2))
    fused = spec.fuse(fused, PlainOperations())
    assert any(type(block).__module__.startswith("refit_host.fused") for block in fused.modules())
    seen = []
    for seed in (1, 2, 1):
        for name, value in random_weights(shapes, seed=seed).items():
            layout.by_name[name].put(arena, value)
        for given in (inputs_of(spec), inputs_of(spec, optional=True), inputs_of(spec, batch=1, sizes={"height": 6, "width": 10})):
            if structure == "wan21-vace":
                given.pop("frame_timesteps", None)
            seen.append(spec.forward(fused, given))
            assert error(seen[-1], spec.forward(plain, given)) < 2e-5
    assert all(map(torch.equal, seen[:3], seen[6:])) and not torch.equal(seen[0], seen[3])


def test_text_and_picture_that_lie_together_are_not_copied():
    both = torch.randn(2, 7, 4)
    words, picture = both[:, :3], both[:, 3:]
    assert joined(words, picture).data_ptr() == both.data_ptr()
    assert torch.equal(joined(words, picture), both)
    for one, other in (
        (words.clone(), picture),
        (picture, words),
        (words, picture.clone()),
        (both[:, :2], picture),
        (both[:1, :3], both[1:, 3:]),
    ):
        assert torch.equal(joined(one, other), torch.cat([one, other], 1))


def test_a_layer_of_codes_takes_the_codes_that_come_before_it():
    """The product itself needs a GPU: here its operands are kept instead."""
    make = torch.Generator().manual_seed(1)
    x, modulation = torch.randn(1, 4, 32, generator=make).bfloat16(), Modulation(*torch.randn(2, 1, 32, generator=make).bfloat16())
    do = PlainOperations()
    codes, scales = do.norm(x, modulation, Even(1e-6), codes=torch.float8_e4m3fn)
    assert codes.dtype == CODE and scales.shape == (4, 1)
    assert error(codes.float() * scales, do.norm(x, modulation, Even(1e-6), codes=None)) < 0.05
    codes, scales = do.gelu(x[0], x[0] * 2, codes=torch.float8_e4m3fn)
    assert codes.shape == (4, 64) and error(codes.float() * scales, do.gelu(x[0], x[0] * 2, codes=None)) < 0.05


def test_values_beyond_f16_are_clipped_as_diffusers_does():
    x, y, out = torch.full((1, 1, 4), 60000.0).half(), torch.full((1, 4), 60000.0).half(), torch.empty(1, 1, 4).half()
    PlainOperations().update(x, Update(y, torch.ones(1, 4).half(), out))
    assert torch.equal(out, torch.full_like(out, 65504.0))


class Wrong(PlainOperations):
    def update(self, x, update):
        super().update(x, update._replace(gate=update.gate * 1.5))


class Broken(PlainOperations):
    def gelu(self, value, beside, *, codes):
        raise RuntimeError("no such instruction\nsecond line")


@pytest.mark.parametrize(("operations", "serves"), [(PlainOperations(), True), (Wrong(), False), (Broken(), False)])
def test_fused_blocks_serve_only_after_a_step_that_gave_the_plain_output(operations, serves, caplog):
    spec, plain, _ = modules(torch.float32)
    made = []

    def make():
        made.append(modules(torch.float32)[1])
        return made[-1]

    found, reason = fused_module(spec, make, operations, inputs(spec, 1), 0.02)
    assert (found is not None) == serves == (reason is None)
    if not serves:
        assert "steps stay as they are" in caplog.text and "second line" not in caplog.text


def test_a_family_without_fused_blocks_stays_as_it_is():
    spec = replace(modules(torch.float32)[0], fuse=None)
    assert fused_module(spec, lambda: None, PlainOperations(), {}, 0.02) == (None, None)


def test_bf16_may_differ_more_than_f16():
    assert (
        tolerance_of(torch.bfloat16, quantised=False)
        == tolerance_of(torch.float16, quantised=True)
        > tolerance_of(torch.float16, quantised=False)
    )


@pytest.mark.parametrize("operations", [PlainOperations(), Broken()])
def test_an_engine_takes_its_fused_blocks_and_compiles_nothing_then(operations):
    spec, _, _ = modules(torch.float32)
    model = TorchModel.__new__(TorchModel)
    builder, graphs = SimpleNamespace(stage_of={}, stages=[]), object()
    model.__dict__.update(
        _spec=spec,
        _make=lambda: modules(torch.float32)[1],
        _builder=builder,
        _graphs=graphs,
        _fused=False,
        _module=None,
        _tolerance=0.02,
        _refused=[],
    )
    model._checked = lambda probe: probe
    model.use_fused(operations, inputs(spec, 1))
    serves = type(operations) is PlainOperations
    assert (model._builder is None) == (model._module is not None) == serves
    assert [row["steps"] for row in model._refused] == ([] if serves else ["fused blocks"])
    assert model.tier == ("fused blocks in CUDA graphs" if serves else "CUDA graphs")


@pytest.mark.parametrize("script", ["fused_interpreted.py", "merge_interpreted.py"])
def test_the_kernels_compute_what_the_operations_say(script):
    """In Triton's interpreter, which rounds towards zero; on a GPU `python -m bench.gpu passes` compares them."""
    pytest.importorskip(
        "triton", reason="Triton is not installed: its kernels are compared on a GPU, at every load and by `python -m bench.gpu passes`"
    )
    code = subprocess.run(
        [sys.executable, str(Path(__file__).resolve().parents[2] / script)], capture_output=True, text=True, timeout=300, check=False
    )
    assert code.returncode == 0, code.stdout + code.stderr
