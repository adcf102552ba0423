"""The merge as one kernel launch: every tile of every touched matrix reads base once, adds its products in f32, rounds once.

Memory-bound by design: 2 bytes read and 2 written per fp16 weight; factors come out of the L2 cache.
"""

# pyright: reportIndexIssue=false
# A Triton kernel is called through an index, which a function does not have.
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from .image import FAST
from .layout import Layout
from .loss import LossSums
from .table import MergeTable, build_table

ARENA_DTYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


# Tile rows, tile columns, warps: the fastest of six on an H100 (bench/gpu, piece "swap").
BLOCKS = (64, 128, 4)


@triton.jit
def _factor(address, offsets, mask, code, CODE: tl.constexpr):
    """A tile of a factor. CODE 0 fp16, 1 bf16, 2 f32; 3: each product has its own dtype, read as f32."""
    if CODE == 0:
        out = tl.load(address.to(tl.pointer_type(tl.float16)) + offsets, mask=mask, other=0.0)
    elif CODE == 1:
        out = tl.load(address.to(tl.pointer_type(tl.bfloat16)) + offsets, mask=mask, other=0.0)
    elif CODE == 2:
        out = tl.load(address.to(tl.pointer_type(tl.float32)) + offsets, mask=mask, other=0.0)
    else:
        half = tl.load(address.to(tl.pointer_type(tl.float16)) + offsets, mask=mask & (code == 0), other=0.0)
        brain = tl.load(address.to(tl.pointer_type(tl.bfloat16)) + offsets, mask=mask & (code == 1), other=0.0)
        single = tl.load(address.to(tl.pointer_type(tl.float32)) + offsets, mask=mask & (code == 2), other=0.0)
        out = half.to(tl.float32) + brain.to(tl.float32) + single
    return out


@triton.jit
def _product(p, product_address, product_number, rm, rn, rows, cols, CODE: tl.constexpr, ALIGNED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
             BK: tl.constexpr):  # fmt: skip
    """A tile of one low-rank product, before its scale."""
    up, down = tl.load(product_address + p * 2), tl.load(product_address + p * 2 + 1)
    rank, code = tl.load(product_number + p * 4), tl.load(product_number + p * 4 + 1)
    if ALIGNED:
        up = tl.multiple_of(up, 16)
        down = tl.multiple_of(down, 16)
    sums = tl.zeros([BM, BN], tl.float32)
    for k in range(0, rank, BK):
        rk = k + tl.arange(0, BK)
        u = _factor(up, rm[:, None] * rank + rk[None, :], (rm < rows)[:, None] & (rk < rank)[None, :], code, CODE)
        d = _factor(down, rk[:, None] * cols + rn[None, :], (rk < rank)[:, None] & (rn < cols)[None, :], code, CODE)
        sums += tl.dot(u, d, input_precision="ieee")
    return sums


@triton.jit
def _both(one, other, one_more, other_more):
    return one + one_more, other + other_more


# The first tile of a launch may be any number: each kind of number would be compiled for itself.
@triton.jit(do_not_specialize=["tile_start"])
def _merge(
    live, base, lost, tile_job, job_offset, job_source, job_shape, product_address, product_number, product_alpha, tile_start,
    LOSS: tl.constexpr, DTYPE: tl.constexpr, CODE: tl.constexpr, JOINS: tl.constexpr, ALIGNED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0) + tile_start
    job = tl.load(tile_job + tile)
    offset = tl.load(job_offset + job)
    source = tl.load(job_source + job)
    rows = tl.load(job_shape + job * 5)
    cols = tl.load(job_shape + job * 5 + 1)
    first = tl.load(job_shape + job * 5 + 2)
    count = tl.load(job_shape + job * 5 + 3)
    if ALIGNED:
        offset = tl.multiple_of(offset, 8)
        source = tl.multiple_of(source, 8)
        cols = tl.multiple_of(cols, 8)
    index = tile - tl.load(job_shape + job * 5 + 4)
    across = tl.cdiv(cols, BN)
    rm = (index // across) * BM + tl.arange(0, BM)
    rn = (index % across) * BN + tl.arange(0, BN)
    inside = (rm < rows)[:, None] & (rn < cols)[None, :]
    place = rm[:, None].to(tl.int64) * cols + rn[None, :]
    pristine = tl.load(base + source + place, mask=inside, other=0.0).to(tl.float32)
    value = pristine
    # Without joins nothing below reads these, and the compiler leaves them out.
    held = tl.zeros((BM, BN), dtype=tl.float32)
    product = held
    holds = 0
    for p in range(first, first + count):
        up = tl.load(product_address + p * 2)
        down = tl.load(product_address + p * 2 + 1)
        rank = tl.load(product_number + p * 4)
        code = tl.load(product_number + p * 4 + 1)
        alpha = tl.load(product_alpha + p)
        if ALIGNED:
            up = tl.multiple_of(up, 16)
            down = tl.multiple_of(down, 16)
        if JOINS:
            product = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, rank, BK):
            rk = k + tl.arange(0, BK)
            u = _factor(up, rm[:, None] * rank + rk[None, :], (rm < rows)[:, None] & (rk < rank)[None, :], code, CODE)
            d = _factor(down, rk[:, None] * cols + rn[None, :], (rk < rank)[:, None] & (rn < cols)[None, :], code, CODE)
            if JOINS:
                product += tl.dot(u, d, input_precision="ieee")
            else:
                value += alpha * tl.dot(u, d, input_precision="ieee")
        if JOINS:
            # Held for the next product, times the held one, or by itself.
            joined = tl.load(product_number + p * 4 + 2)
            product = tl.where(holds != 0, held * product, product)
            value += tl.where(joined != 0, 0.0, alpha * product)
            held = product
            holds = joined
    stored = value.to(DTYPE)
    tl.store(live + offset + place, stored, mask=inside)
    if LOSS:
        # Outside of the matrix everything is zero.
        error = stored.to(tl.float32) - value
        square = tl.sum(tl.sum(error * error, axis=1), axis=0)
        if count == 1:
            change = value - pristine
            tl.atomic_add(lost + first * 3, square, sem="relaxed")
            across_one, owns_one = tl.reduce((error * change, change * change), 1, _both)
            cross_one, own_one = tl.reduce((across_one, owns_one), 0, _both)
            tl.atomic_add(lost + first * 3 + 1, cross_one, sem="relaxed")
            tl.atomic_add(lost + first * 3 + 2, own_one, sem="relaxed")
        else:
            # What each adapter intends is not kept: the card multiplies faster than it holds.
            held = tl.zeros((BM, BN), dtype=tl.float32)
            own = held
            holds = 0
            for p in range(first, first + count):
                product = _product(p, product_address, product_number, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)
                joined = 0
                if JOINS:
                    joined = tl.load(product_number + p * 4 + 2)
                    product = tl.where(holds != 0, held * product, product)
                    held = product
                    holds = joined
                own += tl.where(joined != 0, 0.0, tl.load(product_alpha + p) * product)
                last = tl.load(product_number + p * 4 + 3) == 0
                # Both sums at once: warps wait for each other at every reduction.
                crosses, owns = tl.reduce((error * own, own * own), 1, _both)
                cross, square_own = tl.reduce((crosses, owns), 0, _both)
                tl.atomic_add(lost + p * 3, square, mask=last, sem="relaxed")
                tl.atomic_add(lost + p * 3 + 1, cross, mask=last, sem="relaxed")
                tl.atomic_add(lost + p * 3 + 2, square_own, mask=last, sem="relaxed")
                own = tl.where(last, 0.0, own)


@dataclass(frozen=True)
class Launch:
    """One table on the device for all groups of a refit. `groups`: tile ranges (begin, end, aligned) of each. `lost` [products, 3]: sums of the adapter and slot in `keys`,
    zeros until the groups ran. Nothing in it can fail for want of memory."""

    tables: Tensor
    views: dict[str, Tensor]
    groups: dict[int, list[tuple[int, int, bool]]]
    code: int
    joins: bool
    blocks: tuple[int, int, int]
    lost: Tensor
    keys: np.ndarray


def _tiles(rows: np.ndarray, cols: np.ndarray, blocks: tuple[int, int, int]) -> np.ndarray:
    return -(-rows // blocks[0]) * -(-cols // blocks[1])


def product_pieces(table: MergeTable, factors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """What `_product` and its callers read of each product: places of its factors; rank, dtype of the factors, whether it is multiplied with the next one, whether the next one is
    of the same adapter; its scale."""
    products, address = table.products, np.array([buffer.data_ptr() for buffer in factors] or [0], np.int64)
    return {
        "product_address": np.stack([products[side] + address[products["image"]] for side in ("up", "down")], axis=1).astype(np.int64),
        "product_number": np.stack([products["rank"], products["code"], products["joined"], table.followed], axis=1).astype(np.int32),
        "product_alpha": products["alpha"],
    }


def prepare(
    layout: Layout, table: MergeTable, factors: Sequence[Tensor], device: torch.device, group: np.ndarray | None = None,
    blocks: tuple[int, int, int] = BLOCKS, sources: np.ndarray | None = None,
) -> Launch:  # fmt: skip
    """Tables of a refit, copied to the device in one piece. `factors`: the images' buffers on the device. `group`: a number per
    job, jobs of one number are launched together (None: all are 0). `blocks`: tile rows, tile columns, warps. `sources`: bytes from
    the start of `run`'s base to each slot's pristine values, anywhere on the device (None: where the layout has them)."""
    item = layout.slots[0].dtype.itemsize
    jobs, products = table.jobs, table.products
    row = jobs["row"].astype(np.int64) * jobs["cols"]
    offset = layout.table[jobs["slot"], 0] // item + row
    source = (layout.table[:, 0] if sources is None else sources)[jobs["slot"]] // item + row
    odd_product = (products["up"] % 16 != 0) | (products["down"] % 16 != 0)
    has_odd = np.add.reduceat(np.append(odd_product, False), jobs["first"]) * (jobs["count"] > 0) if len(jobs) else np.zeros(0, int)
    aligned = (jobs["cols"] % 8 == 0) & (offset % 8 == 0) & (source % 8 == 0) & (has_odd == 0)
    # Two launches a group: aligned jobs, then the others.
    part = 2 * (np.zeros(len(jobs), np.int64) if group is None else group.astype(np.int64)) + ~aligned
    order = np.argsort(part, kind="stable")
    jobs, offset, source, part = jobs[order], offset[order], source[order], part[order]
    tiles = _tiles(jobs["rows"], jobs["cols"], blocks)
    ends = np.cumsum(tiles)
    shape = np.stack([jobs["rows"], jobs["cols"], jobs["first"], jobs["count"], ends - tiles], axis=1).astype(np.int32)
    pieces = {
        "job_offset": offset,
        "job_source": source,
        "tile_job": np.repeat(np.arange(len(jobs), dtype=np.int32), tiles),
        "job_shape": shape,
        **product_pieces(table, factors),
    }
    tables, views = _upload(pieces, device)
    groups: dict[int, list[tuple[int, int, bool]]] = {}
    for number in np.unique(part).tolist():
        first, last = np.searchsorted(part, [number, number + 1]).tolist()
        groups.setdefault(number // 2, []).append((int(ends[first] - tiles[first]), int(ends[last - 1]), number % 2 == 0))
    lost = torch.zeros(max(1, len(products)), 3, device=device)
    return Launch(tables, views, groups, table.code if len(products) else 0, bool(products["joined"].any()), blocks, lost, table.owners)


def _upload(pieces: dict[str, np.ndarray], device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    flat = {name: np.ascontiguousarray(piece).reshape(-1) for name, piece in pieces.items()}
    starts, position = {}, 0
    for name, piece in flat.items():
        starts[name] = position
        position += (piece.nbytes + 63) // 64 * 64
    host = torch.empty(position + 64, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for name, piece in flat.items():
        host.numpy()[starts[name] : starts[name] + piece.nbytes] = piece.view(np.uint8)
    tables = host.to(device, non_blocking=True)
    views = {
        name: tables[starts[name] : starts[name] + max(piece.nbytes, piece.itemsize)].view(torch.from_numpy(piece[:0]).dtype)
        for name, piece in flat.items()
    }
    return tables, views


def run(launch: Launch, layout: Layout, live: Tensor, base: Tensor, group: int = 0, losses: LossSums | None = None) -> None:
    """Enqueues the merge of a group on the current stream: live = round(base + products). `base` may be `live`. `losses`: takes what rounding does to each adapter, with the
    last group."""
    dtype = layout.slots[0].dtype
    v = launch.views
    for begin, end, aligned in launch.groups.get(group, ()):
        _merge[(end - begin,)](
            live.view(dtype), base.view(dtype), launch.lost, v["tile_job"], v["job_offset"], v["job_source"], v["job_shape"],
            v["product_address"], v["product_number"], v["product_alpha"], begin,
            LOSS=losses is not None, DTYPE=ARENA_DTYPES[dtype], CODE=launch.code, JOINS=launch.joins, ALIGNED=aligned, BM=launch.blocks[0], BN=launch.blocks[1],
            BK=16, num_warps=launch.blocks[2],
        )  # fmt: skip
    if losses is not None and group == max(launch.groups) and len(launch.keys):
        losses.note_rows(launch.keys, launch.lost)


def warm_up(device: torch.device, dtype: torch.dtype) -> None:
    """Compiles what merges of fp16 and bf16 adapters into weights of this dtype need: the first refit would wait for it."""
    layout = Layout.build({"even": (64, 64), "odd": (7, 9)}, dtype)
    arena = torch.zeros(layout.nbytes, dtype=torch.uint8, device=device)
    factors = torch.zeros(1 << 12, dtype=torch.uint8, device=device)
    # The last one: LoHa in fp16.
    for code, joins in ((0, False), (1, False), (0, True)):
        rows = np.zeros(len(layout.slots), FAST)
        rows["slot"], rows["length"], rows["rank"], rows["code"] = np.arange(len(rows)), layout.table[:, 1], 4, code
        rows["down"] = 1 << 11
        if joins:
            rows = np.repeat(rows, 2)
            rows["joined"][::2] = 1
        launch = prepare(layout, build_table(layout, [(rows, 1.0)], layout.slots), [factors], device)
        run(launch, layout, arena, arena, losses=None if dtype == torch.float32 else LossSums())
    torch.cuda.current_stream(device).synchronize()
