"""The host takes no other device allocator than the one its CUDA graphs work on."""

import pytest
import torch
from refit_host.allocator import WrongAllocator, check_allocator


def test_another_allocator_is_refused_and_says_where_it_comes_from():
    with pytest.raises(
        WrongAllocator, match=r"expected .*native.* started with cudaMallocAsync: take .* PYTORCH_CUDA_ALLOC_CONF .*host-env"
    ):
        check_allocator(torch.device("cuda"), lambda: "cudaMallocAsync")


def test_pytorchs_own_serves_and_a_cpu_has_none():
    check_allocator(torch.device("cuda"), lambda: "native")
    check_allocator(torch.device("cpu"), lambda: pytest.fail("nobody asks on a CPU"))
