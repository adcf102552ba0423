"""torch.compile of the blocks that a model repeats: most of the whole model's gain for a fraction of its compile time.

Compiled code takes weights as inputs, so it serves every checkpoint of a structure. Sizes are dynamic: a new picture size is
no new compilation; what would need one runs uncompiled instead (`steady`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Iterable, Mapping

import torch
from torch import Tensor

from ..quick_start import tell_compiler


def compile_blocks(module: torch.nn.Module, classes: Iterable[str], *, dynamic: bool | None = True) -> int:
    """Marks every submodule of these classes for compilation; returns how many. Compilation happens at the first call."""
    tell_compiler()
    wanted = set(classes)
    # One class serves many shapes of weights: each is its own entry of the same code.
    torch._dynamo.config.cache_size_limit = max(64, torch._dynamo.config.cache_size_limit)
    found = [child for child in module.modules() if type(child).__name__ in wanted]
    for child in found:
        child.compile(dynamic=dynamic)
    return len(found)


def steady() -> AbstractContextManager:
    """Within it nothing is compiled: a block whose compiled code does not fit runs as it is."""
    return torch.compiler.set_stance("eager_on_recompile")


def size_class(inputs: Mapping[str, Tensor]) -> tuple[bool, bool]:
    """What compiled code with dynamic sizes still tells apart: a batch of one, and ControlNet residuals."""
    return inputs["sample"].shape[0] == 1, "mid_residual" in inputs
