"""LoHa in the merge itself: two low-rank products multiplied element by element, between other adapters, on whole matrices and on rows."""

import numpy as np
import pytest
import torch
from refit_host.weights import merge_torch
from refit_host.weights.image import FAST
from refit_host.weights.layout import Layout
from refit_host.weights.table import build_table

# (rank, joined with the next, scale)
PRODUCTS = ((4, 0, 0.5), (8, 1, 0.0), (5, 0, 0.7), (2, 0, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("shape", "start", "length"), [((64, 64), 0, 64), ((70, 36), 0, 70), ((48, 9), 16, 16)])
def test_joined_products_are_multiplied_and_added_once(dtype, shape, start, length):
    make = torch.Generator().manual_seed(3)
    layout = Layout.build({"w": shape}, dtype)
    base = torch.randn(shape, generator=make).to(dtype)
    arena = torch.zeros(layout.nbytes, dtype=torch.uint8)
    arena[: base.nbytes] = base.reshape(-1).view(torch.uint8)
    buffer, at = torch.zeros(1 << 16, dtype=torch.uint8), 0
    rows, products = np.zeros(len(PRODUCTS), FAST), []
    for index, (rank, joined, scale) in enumerate(PRODUCTS):
        places = []
        factors = torch.randn(length, rank, generator=make).half(), torch.randn(rank, shape[1], generator=make).half()
        for factor in factors:
            buffer[at : at + factor.nbytes] = factor.reshape(-1).view(torch.uint8)
            places.append(at)
            at += -(-factor.nbytes // 128) * 128
        rows[index] = (0, start, length, 0, *places, rank, 0, scale, 1.0, joined)
        products.append(factors[0].float() @ factors[1].float())
    wanted = base.float()
    wanted[start : start + length] += 0.9 * (0.5 * products[0] + 0.7 * products[1] * products[2] + products[3])
    live = arena.clone()
    merge_torch.merge(layout, live, arena, build_table(layout, [(rows, 0.9)], layout.slots), [buffer])
    got = live[: base.nbytes].view(dtype).view(shape)
    assert torch.allclose(got.float(), wanted, rtol=1e-3 if dtype == torch.float16 else 1e-5, atol=1e-4)
