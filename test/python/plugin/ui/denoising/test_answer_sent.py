"""Inputs that are the same over a run are compared where they lie."""

import pytest
import torch
from refit_sidecar_plugin.ui.denoising.tensors import same_bits


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
def test_tensors_are_equal_by_their_bits(dtype):
    one = torch.arange(24).to(dtype).reshape(4, 6)
    assert same_bits(one, one.clone()) and same_bits(one.t(), one.t().contiguous())
    assert not same_bits(one, one.reshape(6, 4)) and not same_bits(one, one.t())
    other = one.clone()
    other[3, 5] = 1
    assert not same_bits(one, other)


def test_a_negative_zero_is_another_value_and_a_nan_equals_itself():
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same_bits(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    assert not same_bits(torch.tensor([1], dtype=torch.int32), torch.tensor([1], dtype=torch.int64))
