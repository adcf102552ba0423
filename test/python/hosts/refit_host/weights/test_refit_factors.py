"""A refit's factors stay in memory from its preparation to its commit, and their largest magnitudes are found whatever the dtype."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from engines import UNET, image, whole_engine
from refit_host.weights.read_factors import _largest


def test_factors_outlive_a_merge_that_knows_only_their_addresses(tmp_path):
    weights = whole_engine(tmp_path, UNET)
    factors: list[weakref.ref] = []

    def by_address(layout, table, buffers, device, group):
        factors.extend(weakref.ref(buffer) for buffer in buffers)
        return {}

    weights._prepare_merge = by_address
    prepared = weights.prepare([(image(tmp_path, UNET, weights.layout, 1), 0.7)])
    gc.collect()
    assert factors and all(factor() is not None for factor in factors)
    weights.commit(prepared)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_largest_magnitude(dtype):
    name = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3"}[dtype]
    raw = lambda values: memoryview(torch.tensor(values).to(dtype).view(torch.uint8).numpy())  # noqa: E731
    assert _largest(raw([0.5, -3.0, 1.0]), name) == 3.0
    assert _largest(raw([-0.0]), name) == 0.0
    assert np.isnan(_largest(raw([float("nan"), 1.0]), name))
    assert _largest(memoryview(b""), name) == 0.0
    if dtype != torch.float8_e4m3fn:
        assert np.isinf(_largest(raw([float("-inf"), 1.0]), name))
