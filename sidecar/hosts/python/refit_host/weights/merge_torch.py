"""The merge without a compiler: batched products over runs of equal matrices. Runs wherever PyTorch does; the kernel's reference."""

from __future__ import annotations

from typing import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .layout import Layout
from .loss import LossSums
from .table import MergeTable

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
# f32 working copy of a batch; keeps the merge's own memory small on small cards.
BATCH_BYTES = 256 << 20


def _batch(buffer: Tensor, begin: int, step: int, count: int, rows: int, cols: int, dtype: torch.dtype) -> Tensor:
    """[count, rows, cols] over matrices that start `step` bytes apart."""
    item = dtype.itemsize
    span = step * (count - 1) + rows * cols * item
    return buffer[begin : begin + span].view(dtype).as_strided((count, rows, cols), (step // item, cols, 1))


def _neighbours(table: MergeTable, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per job: whether shape and products equal those of the job before; and one number that names the distances to it."""
    jobs, products = table.jobs, table.products
    same = np.zeros(len(jobs), bool)
    step = np.zeros(len(jobs), np.int64)
    same[1:] = (jobs["rows"][1:] == jobs["rows"][:-1]) & (jobs["cols"][1:] == jobs["cols"][:-1]) & (jobs["count"][1:] == jobs["count"][:-1])
    step[1:] = np.diff(starts)
    for offset in range(int(jobs["count"].max(initial=0))):
        has = jobs["count"] > offset
        mine = products[np.where(has, jobs["first"] + offset, 0)]
        for field in ("rank", "code", "alpha", "image", "joined"):
            same[1:] &= ~has[1:] | (mine[field][1:] == mine[field][:-1])
        for field in ("up", "down"):
            distance = np.where(has[1:], np.diff(mine[field]), 0)
            same[1:] &= ~has[1:] | (distance > 0)
            step[1:] = step[1:] * 1_000_003 + distance  # wraps; equal distances stay equal
    return same, step


def _runs(table: MergeTable, starts: np.ndarray) -> Iterator[tuple[int, int]]:
    """[first, last) of jobs that form one batch: equal shapes and products, evenly spaced in the arena and in the factors."""
    same, step = (values.tolist() for values in _neighbours(table, starts))
    limits = np.maximum(1, BATCH_BYTES // (4 * np.maximum(1, table.jobs["rows"].astype(np.int64) * table.jobs["cols"]))).tolist()
    begin = 0
    for index in range(1, len(same)):
        even = index == begin + 1 or step[index] == step[index - 1]
        if not (same[index] and even and index - begin < limits[begin]):
            yield begin, index
            begin = index
    yield begin, len(same)


def merge(layout: Layout, live: Tensor, base: Tensor, table: MergeTable, factors: Sequence[Tensor], losses: LossSums | None = None) -> None:
    """live = round(base + sum(alpha * up * down)) for every job; of joined products, their elements' product. `base` may be `live` (then it holds pristine values).

    f32 accumulation, one rounding. On CUDA a single product of the weight's own dtype goes to one GEMM whose epilogue does both. `losses`: takes what the rounding does to each
    adapter.
    """
    if not len(table.jobs):
        return
    slots = [layout.slots[index] for index in table.jobs["slot"].tolist()]
    dtype, item = slots[0].dtype, slots[0].dtype.itemsize
    starts = np.array([slot.offset for slot in slots], np.int64) + table.jobs["row"].astype(np.int64) * table.jobs["cols"] * item
    for begin, end in _runs(table, starts):
        count, rows, cols = end - begin, int(table.jobs["rows"][begin]), int(table.jobs["cols"][begin])
        step = int(starts[begin + 1] - starts[begin]) if count > 1 else 0
        target = _batch(live, int(starts[begin]), step, count, rows, cols, dtype)
        source = _batch(base, int(starts[begin]), step, count, rows, cols, dtype)
        pairs = _pairs(table, begin, count, rows, cols, factors)
        if not pairs:
            if base is not live:
                target.copy_(source)
        elif len(pairs) == 1 and live.is_cuda and pairs[0][0].dtype == dtype:
            value = None if losses is None else source.float().baddbmm_(pairs[0][0].float(), pairs[0][1].float(), alpha=pairs[0][2])
            torch.baddbmm(source, pairs[0][0], pairs[0][1], alpha=pairs[0][2], out=target)
            if losses is not None and value is not None:
                _note(losses, table.jobs["slot"][begin:end], pairs, target, value)
        else:
            value = source.to(torch.float32, copy=True)
            held: Tensor | None = None
            for up, down, alpha, joined, _ in pairs:
                if joined or held is not None:
                    product = torch.bmm(up.float(), down.float())
                    product = product if held is None else held.mul_(product)
                    held = product if joined else None
                    if not joined:
                        value.add_(product, alpha=alpha)
                else:
                    value.baddbmm_(up.float(), down.float(), alpha=alpha)
            target.copy_(value)
            if losses is not None:
                _note(losses, table.jobs["slot"][begin:end], pairs, target, value)


Pair = tuple[Tensor, Tensor, float, bool, int]


def _note(losses: LossSums, slots: np.ndarray, pairs: Sequence[Pair], target: Tensor, value: Tensor) -> None:
    """Sums of a batch for each adapter: what it intends, and what rounding made of the sum of all."""
    error = target.float() - value
    square = (error * error).sum(dim=(1, 2))
    held: Tensor | None = None
    own: Tensor | None = None
    for index, (up, down, alpha, joined, image) in enumerate(pairs):
        product = torch.bmm(up.float(), down.float())
        if held is not None:
            product.mul_(held)
        held = product if joined else None
        if joined:
            continue
        change: Tensor = alpha * product if own is None else own.add_(product, alpha=alpha)
        own = change
        if index + 1 == len(pairs) or pairs[index + 1][4] != image:
            sums = torch.stack([square, (error * change).sum(dim=(1, 2)), (change * change).sum(dim=(1, 2))], dim=1)
            losses.note_rows(np.stack([np.full(len(slots), image), slots], axis=1), sums)
            own = None


def _pairs(table: MergeTable, begin: int, count: int, rows: int, cols: int, factors: Sequence[Tensor]) -> list[Pair]:
    first, number = int(table.jobs["first"][begin]), int(table.jobs["count"][begin])
    out = []
    for offset in range(number):
        product = table.products[first + offset]
        rank, dtype = int(product["rank"]), DTYPES[product["code"]]
        steps = {"up": 0, "down": 0}
        if count > 1:
            second = table.products[table.jobs["first"][begin + 1] + offset]
            steps = {field: int(second[field] - product[field]) for field in steps}
        buffer = factors[product["image"]]
        up = _batch(buffer, int(product["up"]), steps["up"], count, rows, rank, dtype)
        down = _batch(buffer, int(product["down"]), steps["down"], count, rank, cols, dtype)
        out.append((up, down, float(product["alpha"]), bool(product["joined"]), int(product["image"])))
    return out
