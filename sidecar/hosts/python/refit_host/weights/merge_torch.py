"""The merge without a compiler: one product after the other. Runs on every device that PyTorch knows; the reference for the kernel."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from .layout import Layout
from .table import MergeTable

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def _matrix(buffer: Tensor, begin: int, code: int, rows: int, cols: int) -> Tensor:
    dtype = DTYPES[code]
    return buffer[begin : begin + rows * cols * dtype.itemsize].view(dtype).view(rows, cols)


def merge(layout: Layout, live: Tensor, base: Tensor, table: MergeTable, factors: Sequence[Tensor]) -> None:
    """live = round(base + sum(alpha * up * down)) for every job. `base` may be `live` (then it holds pristine values).

    f32 accumulation, one rounding. On CUDA a single product of the weight's own dtype goes to one GEMM whose epilogue does both.
    """
    for slot_index, row, rows, cols, first, count in table.jobs.tolist():
        slot = layout.slots[slot_index]
        source = slot.physical(base)[row : row + rows]
        target = slot.physical(live)[row : row + rows]
        products = table.products[first : first + count].tolist()
        pairs = [
            (_matrix(factors[image], up, code, rows, rank), _matrix(factors[image], down, code, rank, cols), alpha)
            for up, down, rank, code, alpha, image in products
        ]
        if not pairs:
            if base is not live:
                target.copy_(source)
        elif len(pairs) == 1 and live.is_cuda and pairs[0][0].dtype == slot.dtype:
            up, down, alpha = pairs[0]
            torch.addmm(source, up, down, alpha=alpha, out=target)
        else:
            value = source.float()
            if base is live or value.data_ptr() == source.data_ptr():
                value = value.clone()
            for up, down, alpha in pairs:
                value.addmm_(up.float(), down.float(), alpha=alpha)
            target.copy_(value)
