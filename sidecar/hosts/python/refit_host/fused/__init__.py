"""Blocks that a family repeats, as large products with one pass over memory between them. No compiler but Triton's: they serve from the first step.

`passes.py` says what each pass computes (plain PyTorch, any device), `kernels.py` does the same in one launch each. A block takes its operations
as an object, so tests compare the two and run the blocks without a GPU.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .passes import Operations


def operations(device: torch.device) -> "Operations":
    """The kernels where Triton serves the device, else plain PyTorch."""
    from ..weights.merge import triton_works
    from .passes import PlainOperations

    if not triton_works(device):
        return PlainOperations()
    from .kernels import KernelOperations

    return KernelOperations()


def use_fused_blocks(file: str, module: torch.nn.Module, operations: "Operations") -> torch.nn.Module:
    """Changes the classes of a bound module's blocks by the table `BLOCKS` of a file of this folder; hooks, parameters and names stay."""
    kinds = import_module(f".{file}", __package__).BLOCKS
    for child in module.modules():
        if type(child) in kinds:
            child.__class__ = kinds[type(child)]
            child.operations = operations
    return module
