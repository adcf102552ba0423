"""fp8 and NVFP4 against values computed by hand, against ml_dtypes' independent casts, and by their error bounds."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from refit_host.quant.formats import FORMATS, parts_of
from refit_host.quant.fp8 import Fp8
from refit_host.quant.nvfp4 import BLOCK, VALUES, Nvfp4, e2m1
from refit_host.quant.product import quantise_tokens


def random_matrix(rows: int = 48, cols: int = 64, seed: int = 0) -> torch.Tensor:
    """Rows of very different sizes."""
    make = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=make) * 10 ** torch.linspace(-6, 4, rows)[:, None]


def test_fp8_of_a_row_worked_out_by_hand():
    # Largest 896, so the scale is 2; 3.4 / 2 = 1.7 lies between the codes 1.625 and 1.75; 2.125 / 2 = 1.0625 is a tie: even code, 1.0.
    encoded = Fp8().encode(torch.tensor([[896.0, 3.4, 2.125, -896.0]]))
    assert encoded["scale"].tolist() == [[2.0]]
    assert encoded["codes"].float().tolist() == [[448.0, 1.75, 1.0, -448.0]]
    assert Fp8().decode(encoded).tolist() == [[896.0, 3.5, 2.0, -896.0]]


@pytest.mark.parametrize("seed", range(3))
def test_fp8_codes_are_those_of_ml_dtypes(seed):
    value = random_matrix(seed=seed)
    encoded = Fp8().encode(value)
    scale = np.maximum(np.abs(value.numpy()).max(axis=1, keepdims=True) / np.float32(448), np.float32(2.0**-126))
    assert np.array_equal(encoded["scale"].numpy(), scale)
    expected = np.clip(value.numpy() / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    assert np.array_equal(encoded["codes"].view(torch.uint8).numpy(), expected.view(np.uint8))


def test_fp8_error_is_within_half_a_step_of_every_value():
    value = random_matrix()
    decoded = Fp8().decode(Fp8().encode(value))
    largest = value.abs().amax(1, keepdim=True)
    # Normal codes have 3 mantissa bits; below 2^-6 of the scale the step is 2^-9 of it.
    bound = torch.maximum(value.abs() / 16, largest / 448 * 2.0**-10) * (1 + 1e-5)
    assert ((decoded - value).abs() <= bound).all()


def test_nvfp4_of_a_block_worked_out_by_hand():
    row = torch.zeros(1, 2 * BLOCK)
    row[0, 0], row[0, 1], row[0, 2], row[0, BLOCK] = 2688.0, -1100.0, 600.0, 6.0
    encoded = Nvfp4().encode(row)
    # Largest of the tensor 2688 = 6 * 448: scale 1. First block: 448; 2688 / 448 = 6, -1100 / 448 = -2.46 -> -2, 600 / 448 = 1.34 -> 1.5.
    # Second block: 6 / 6 = 1, so its first value is code 6 again.
    assert encoded["scale"].tolist() == [[1.0]]
    assert encoded["block_scale"].float().tolist() == [[448.0, 1.0]]
    assert encoded["codes"].shape == (1, BLOCK)
    assert encoded["codes"][0, :2].tolist() == [0x7 | (0xC << 4), 0x3]
    assert encoded["codes"][0, BLOCK // 2].item() == 0x7
    assert Nvfp4().decode(encoded)[0, [0, 1, 2, BLOCK]].tolist() == [2688.0, -896.0, 672.0, 6.0]


def test_e2m1_codes_are_those_of_ml_dtypes_ties_included():
    value = torch.cat(
        [
            torch.linspace(-6, 6, 4001),
            torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]),
            -torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]),
        ]
    )
    expected = value.numpy().astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    got = e2m1(value).numpy()
    table = np.array([*VALUES, *(-v for v in VALUES)])
    assert np.array_equal(table[got], table[expected & 15])


def test_nvfp4_error_is_within_half_the_widest_step_of_its_block():
    value = random_matrix(cols=96)[20:28]
    decoded = Nvfp4().decode(Nvfp4().encode(value))
    blocks = value.unflatten(1, (-1, BLOCK))
    # A block scale is rounded by up to 1/16 (or half of the smallest e4m3 step, 2^-10 of the tensor's scale); the widest step between
    # codes is 2 of 6; a scale rounded down cuts the largest value by as much.
    largest = blocks.abs().amax(-1, keepdim=True)
    bound = largest * (1 / 6 * 17 / 16 + 1 / 16) + 6 * 2.0**-10 * value.abs().max() / (6 * 448)
    assert ((decoded.unflatten(1, (-1, BLOCK)) - blocks).abs() <= bound * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", FORMATS)
def test_stored_parts_have_the_declared_shapes_and_rows_stand_alone(name):
    form, value = FORMATS[name], random_matrix()
    encoded = form.encode(value)
    assert [(part.name, part.shape, part.dtype) for part in parts_of(form, *value.shape)] == [
        (key, tuple(v.shape), v.dtype) for key, v in encoded.items()
    ]
    rows = form.decode({key: part[16:32] for key, part in encoded.items()})
    assert torch.equal(rows, form.decode(encoded)[16:32])


@pytest.mark.parametrize("name", FORMATS)
def test_zero_rows_and_a_zero_matrix_stay_zero(name):
    form = FORMATS[name]
    value = random_matrix()
    value[3] = 0
    assert torch.equal(form.decode(form.encode(value))[3], torch.zeros(64))
    zeros = form.decode(form.encode(torch.zeros(16, 32)))
    assert torch.equal(zeros, torch.zeros(16, 32))


@pytest.mark.parametrize("name", FORMATS)
def test_tiny_and_huge_values_stay_finite(name):
    form = FORMATS[name]
    for size in (1e-44, 1e-38, 1e-30, 1e30, 3e38):
        value = random_matrix().sign() * size
        decoded = form.decode(form.encode(value))
        assert torch.isfinite(decoded).all(), size
        assert (decoded.abs() <= value.abs() * 1.07 + 2.0**-126).all(), size


@pytest.mark.parametrize("name", FORMATS)
def test_scales_follow_the_values(name):
    """A merged value ten times as large is coded with the same codes and a scale ten times as large: nothing is left of an old scale."""
    form, value = FORMATS[name], random_matrix()[10:30]
    small, large = form.encode(value), form.encode(value * 16)
    assert torch.equal(small["codes"].view(torch.uint8), large["codes"].view(torch.uint8))
    assert torch.equal(small["scale"] * 16, large["scale"])


def test_activations_are_coded_per_token():
    value = random_matrix(32, 64).bfloat16()
    codes, scale = quantise_tokens(value, torch.float8_e4m3fn)
    assert codes.dtype == torch.float8_e4m3fn and scale.shape == (32, 1)
    decoded = codes.float() * scale
    error = (decoded - value.float()).norm(dim=1) / value.float().norm(dim=1)
    assert (error < 0.04).all()
    assert torch.equal(quantise_tokens(torch.zeros(2, 16).bfloat16(), torch.float8_e4m3fn)[0].float(), torch.zeros(2, 16))
