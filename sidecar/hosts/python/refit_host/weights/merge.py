"""Chooses how merges run on this computer: one Triton kernel where Triton works, PyTorch operations elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from . import merge_torch
from .layout import Layout
from .loss import LossSums
from .table import MergeTable

# live, base, what takes the loss of each adapter (None: nobody) -> enqueued merge. Made while preparing, called while committing.
Enqueue = Callable[[Tensor, Tensor, "LossSums | None"], None]
# Last argument: the group of each job. One merge per group that has jobs, all of them planned and uploaded together.
Prepare = Callable[[Layout, MergeTable, Sequence[Tensor], torch.device, np.ndarray], dict[int, Enqueue]]


def _with_torch(
    layout: Layout, table: MergeTable, factors: Sequence[Tensor], device: torch.device, group: np.ndarray
) -> dict[int, Enqueue]:
    parts = {number: MergeTable(table.jobs[group == number], table.products) for number in np.unique(group).tolist()}
    return {number: partial(_run_torch, layout, part, factors) for number, part in parts.items()}


def _run_torch(layout: Layout, table: MergeTable, factors: Sequence[Tensor], live: Tensor, base: Tensor, losses: LossSums | None) -> None:
    merge_torch.merge(layout, live, base, table, factors, losses)


def _with_triton(
    layout: Layout, table: MergeTable, factors: Sequence[Tensor], device: torch.device, group: np.ndarray
) -> dict[int, Enqueue]:
    from . import merge_triton

    launch = merge_triton.prepare(layout, table, factors, device, group)

    def run(number: int, live: Tensor, base: Tensor, losses: LossSums | None) -> None:
        merge_triton.run(launch, layout, live, base, number, losses)

    return {number: partial(run, number) for number in launch.groups}


def triton_works(device: torch.device) -> bool:
    """Whether the one-launch kernel can be used: CUDA or ROCm, and Triton importable (PyTorch for Windows has none)."""
    if device.type != "cuda":
        return False
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 5) or torch.version.hip is not None


def merger(device: torch.device, name: str = "auto") -> tuple[str, Prepare]:
    """(name, preparer). `name`: auto, triton or torch."""
    if name == "triton" or (name == "auto" and triton_works(device)):
        return "triton", _with_triton
    return "torch", _with_torch
