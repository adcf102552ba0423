"""The choice of attention kernels: by what was measured, and nothing changed where there is nothing to choose."""

from __future__ import annotations

import pytest
import torch
from refit_host.torch_engine.attention import ORDERS, choose, prefer_fastest
from torch.nn import functional
from torch.nn.attention import sdpa_kernel


@pytest.mark.parametrize(("flash", "cudnn", "expected"), [(2.0, 1.2, "cudnn"), (2.0, 1.95, "flash"), (2.0, 3.0, "flash")])
def test_the_kernel_that_wins_clearly_goes_first(flash, cudnn, expected):
    assert choose({"flash": flash, "cudnn": cudnn}.__getitem__) == expected


def test_a_kernel_that_does_not_run_is_not_chosen():
    def measure(name: str) -> float:
        if name == "cudnn":
            raise RuntimeError("No available kernel. Aborting execution.")
        return 1.0

    assert choose(measure) == "flash"


def test_nothing_is_changed_without_a_gpu():
    assert prefer_fastest("flux", {"attention_head_dim": 128, "num_attention_heads": 24}, torch.device("cpu")) == "default"


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_still_runs_on_any_device(name):
    values = torch.randn(1, 2, 8, 16)
    expected = functional.scaled_dot_product_attention(values, values, values)
    with sdpa_kernel(ORDERS[name], set_priority=True):
        assert torch.allclose(functional.scaled_dot_product_attention(values, values, values), expected, atol=1e-5)
