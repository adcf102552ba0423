"""Products of several layers with the same rows as one, where the layers' matrices follow each other in the arena. Weights are never copied for it."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .rows import Rows, product


def neighbours(matrices: Sequence[Tensor]) -> list[list[int]]:
    """Runs of matrices of one shape that lie one after the other in memory without a gap, as indices in that order. Every index is in one run."""
    order = sorted(range(len(matrices)), key=lambda index: (matrices[index].untyped_storage().data_ptr(), matrices[index].storage_offset()))
    runs: list[list[int]] = []
    for index in order:
        if runs and _follows(matrices[runs[-1][-1]], matrices[index]):
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _follows(one: Tensor, other: Tensor) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.is_contiguous() and other.is_contiguous()
        and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() and other.storage_offset() == one.storage_offset() + one.numel()
    )  # fmt: skip


def stacked(matrices: Sequence[Tensor]) -> Tensor:
    """One matrix with the rows of all of these, which `neighbours` gave in this order: a view."""
    rows, cols = matrices[0].shape
    return torch.as_strided(matrices[0], (len(matrices) * rows, cols), (cols, 1), matrices[0].storage_offset())


def products(layers: Sequence[nn.Module], rows: Rows) -> list[Tensor]:
    """[rows, rows of the layer] for each layer; views of one result where their matrices are neighbours."""
    if not isinstance(rows, Tensor) or not all(_bare(layer) for layer in layers):
        return [product(layer, rows) for layer in layers]
    found: list[Tensor] = [rows] * len(layers)
    weights = [layer.weight for layer in layers]
    for run in neighbours(weights):
        whole = functional.linear(rows, stacked([weights[index] for index in run]))
        for index, part in zip(run, whole.chunk(len(run), 1)):
            found[index] = part
    return found


def _bare(layer: nn.Module) -> bool:
    """A matrix and nothing else."""
    return type(layer) is nn.Linear and layer.bias is None and not layer._forward_pre_hooks and not layer._forward_hooks
