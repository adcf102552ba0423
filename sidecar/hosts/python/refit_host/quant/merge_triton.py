"""Merge and codes in one launch: a program takes some rows of a matrix, reads the base (values, or the file's own codes), adds the low-rank products in f32, finds each row's scale
and writes its codes. What rounding lost of each product is summed on the way.

Rows are gone through twice: for their largest magnitude, and for their codes. Products are made again in the second pass: they cost less than memory for them would.
"""

# pyright: reportIndexIssue=false
# A Triton kernel is called through an index, which a function does not have.
from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..weights.merge_triton import _factor, _upload
from ..weights.table import MergeTable
from . import fp8, int8
from .formats import Format
from .product_triton import nearest
from .row_scale import SHRUNK, SMALLEST_SCALE

# Rows and columns of a tile, warps (bench/gpu, piece "quantised swap").
BLOCKS = (32, 128, 4)
KINDS = {"fp8": 1, "int8": 2}
LIMITS = {"fp8": (fp8.LIMIT, fp8.COVER), "int8": (int8.LIMIT, int8.COVER)}


@triton.jit
def _product(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE: tl.constexpr, ALIGNED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
             BK: tl.constexpr):  # fmt: skip
    """A tile of one low-rank product."""
    up, down = tl.load(product_address + p * 2), tl.load(product_address + p * 2 + 1)
    rank, code = tl.load(product_number + p * 2), tl.load(product_number + p * 2 + 1)
    alpha = tl.load(product_alpha + p)
    if ALIGNED:
        up = tl.multiple_of(up, 16)
        down = tl.multiple_of(down, 16)
    sums = tl.zeros([BM, BN], tl.float32)
    for k in range(0, rank, BK):
        rk = k + tl.arange(0, BK)
        u = _factor(up, rm[:, None] * rank + rk[None, :], (rm < rows)[:, None] & (rk < rank)[None, :], code, CODE)
        d = _factor(down, rk[:, None] * cols + rn[None, :], (rk < rank)[:, None] & (rn < cols)[None, :], code, CODE)
        sums += tl.dot(u, d, input_precision="ieee")
    return alpha * sums


@triton.jit
def _codes(value, scale, FORM: tl.constexpr, LIMIT: tl.constexpr):
    """Codes of rows with these scales."""
    quotient = tl.math.div_rn(value, tl.zeros_like(value) + scale[:, None])
    # One return: the compiler goes on past one inside of an `if`, and finds two types.
    if FORM == 1:
        out = tl.minimum(tl.maximum(quotient, -LIMIT), LIMIT).to(tl.float8e4nv)
    else:
        out = tl.minimum(tl.maximum(nearest(quotient), -LIMIT - 1.0), LIMIT).to(tl.int8)
    return out


# The first tile of a launch may be any number: each kind of number would be compiled for itself.
@triton.jit(do_not_specialize=["tile_start"])
def _merge(
    live, base, tile_job, job_place, job_shape, product_address, product_number, product_alpha, lost, tile_start,
    FORM: tl.constexpr, CODED: tl.constexpr, CODE: tl.constexpr, ALIGNED: tl.constexpr, LIMIT: tl.constexpr, COVER: tl.constexpr, SHRUNK: tl.constexpr,
    SMALLEST: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0) + tile_start
    job = tl.load(tile_job + tile)
    base_at, base_scale_at = tl.load(job_place + job * 4), tl.load(job_place + job * 4 + 1)
    live_at, live_scale_at = tl.load(job_place + job * 4 + 2), tl.load(job_place + job * 4 + 3)
    rows, cols = tl.load(job_shape + job * 5), tl.load(job_shape + job * 5 + 1)
    first, count = tl.load(job_shape + job * 5 + 2), tl.load(job_shape + job * 5 + 3)
    cols = tl.multiple_of(cols, 16)
    base_at = tl.multiple_of(base_at, 16)
    live_at = tl.multiple_of(live_at, 16)
    rm = (tile - tl.load(job_shape + job * 5 + 4)) * BM + tl.arange(0, BM)
    there = rm < rows
    wide = rm.to(tl.int64)[:, None] * cols
    code_type = tl.float8e4nv if FORM == 1 else tl.int8
    target = (live + live_at).to(tl.pointer_type(code_type))
    old = tl.zeros([BM], tl.float32) + 1.0
    if CODED:
        source = (base + base_at).to(tl.pointer_type(code_type))
        old = tl.load((base + base_scale_at).to(tl.pointer_type(tl.float32)) + rm, mask=there, other=1.0)
    else:
        source = (base + base_at).to(tl.pointer_type(tl.bfloat16))
    peak_before, peak = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    for begin in range(0, cols, BN):
        rn = begin + tl.arange(0, BN)
        inside = there[:, None] & (rn < cols)[None, :]
        before = tl.load(source + wide + rn[None, :], mask=inside, other=0.0).to(tl.float32)
        if CODED:
            before *= old[:, None]
        value = before
        for p in range(first, first + count):
            value += _product(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)
        peak_before = tl.maximum(peak_before, tl.max(tl.abs(before), axis=1))
        peak = tl.maximum(peak, tl.max(tl.abs(value), axis=1))
    limit = tl.zeros([BM], tl.float32) + LIMIT
    if not CODED:
        old = tl.maximum(tl.math.div_rn(peak_before, limit), SMALLEST)
    fresh = tl.maximum(tl.math.div_rn(peak, limit), SMALLEST)
    enough = peak >= SHRUNK * peak_before
    if FORM == 1:
        kept = old * tl.exp2(tl.ceil(tl.log2(tl.maximum(tl.math.div_rn(peak, old * COVER), 1.0))))
        scale = tl.where(enough & (peak_before > 0) & (kept < 3e38) & (old >= SMALLEST), kept, fresh)
    else:
        scale = tl.where(enough & (peak <= tl.maximum(old * COVER, peak_before)), old, fresh)
    tl.store((live + live_scale_at).to(tl.pointer_type(tl.float32)) + rm, scale, mask=there)
    errors, crosses, owns = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    for begin in range(0, cols, BN):
        rn = begin + tl.arange(0, BN)
        inside = there[:, None] & (rn < cols)[None, :]
        before = tl.load(source + wide + rn[None, :], mask=inside, other=0.0).to(tl.float32)
        if CODED:
            before *= old[:, None]
        change = tl.zeros([BM, BN], tl.float32)
        for p in range(first, first + count):
            change += _product(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)
        codes = _codes(before + change, scale, FORM, LIMIT)
        tl.store(target + wide + rn[None, :], codes, mask=inside)
        if count > 0:
            if not CODED:
                before = _codes(before, old, FORM, LIMIT).to(tl.float32) * old[:, None]
            error = tl.where(inside, codes.to(tl.float32) * scale[:, None] - before - change, 0.0)
            if count == 1:
                errors += tl.sum(error * error, axis=1)
                crosses += tl.sum(error * change, axis=1)
                owns += tl.sum(change * change, axis=1)
            else:
                square = tl.sum(tl.sum(error * error, axis=1), axis=0)
                for p in range(first, first + count):
                    own = _product(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)
                    tl.atomic_add(lost + p * 3, square)
                    tl.atomic_add(lost + p * 3 + 1, tl.sum(tl.sum(error * own, axis=1), axis=0))
                    tl.atomic_add(lost + p * 3 + 2, tl.sum(tl.sum(own * own, axis=1), axis=0))
    if count == 1:
        tl.atomic_add(lost + first * 3, tl.sum(errors, axis=0))
        tl.atomic_add(lost + first * 3 + 1, tl.sum(crosses, axis=0))
        tl.atomic_add(lost + first * 3 + 2, tl.sum(owns, axis=0))


@dataclass(frozen=True)
class Launch:
    """Tables of one refit on the device. `groups`: (begin, end, the base is codes, aligned) of tiles. `lost` [products, 3]: sums of each product, zeros until it ran."""

    tables: Tensor
    views: Mapping[str, Tensor]
    groups: Sequence[tuple[int, int, bool, bool]]
    code: int
    lost: Tensor
    keys: Sequence[tuple[int, int]]
    form: Format
    blocks: tuple[int, int, int]


def prepare(
    form: Format, table: MergeTable, places: Mapping[int, tuple[int, int, int, int]], factors: Sequence[Tensor], device: torch.device,
    blocks: tuple[int, int, int] | None = None,
) -> Launch:  # fmt: skip
    """`blocks`: None for the usual ones.

    `table`: jobs and products of the slots. `places`: slot -> where its base values, its base scales (-1: the base is bf16), its codes and its scales
    lie, in bytes."""
    blocks = blocks or BLOCKS
    jobs, products = table.jobs, table.products
    where = np.array([places[slot] for slot in jobs["slot"].tolist()], np.int64).reshape(-1, 4)
    coded = where[:, 1] >= 0
    row, cols = jobs["row"].astype(np.int64), jobs["cols"].astype(np.int64)
    where = np.stack(
        [where[:, 0] + row * cols * np.where(coded, 1, 2), where[:, 1] + row * 4 * coded, where[:, 2] + row * cols, where[:, 3] + row * 4],
        axis=1,
    )
    odd = (products["up"] % 16 != 0) | (products["down"] % 16 != 0)
    has_odd = np.add.reduceat(np.append(odd, False), jobs["first"]) * (jobs["count"] > 0) if len(jobs) else np.zeros(0, int)
    part = 2 * coded.astype(np.int64) + (has_odd == 0)
    order = np.argsort(part, kind="stable")
    jobs, where, part = jobs[order], where[order], part[order]
    tiles = -(-jobs["rows"] // blocks[0])
    ends = np.cumsum(tiles)
    address = np.array([buffer.data_ptr() for buffer in factors] or [0], np.int64)
    pieces = {
        "job_place": where,
        "product_address": np.stack([products[k] + address[products["image"]] for k in ("up", "down")], axis=1).astype(np.int64),
        "tile_job": np.repeat(np.arange(len(jobs), dtype=np.int32), tiles),
        "job_shape": np.stack([jobs["rows"], jobs["cols"], jobs["first"], jobs["count"], ends - tiles], axis=1).astype(np.int32),
        "product_number": np.stack([products["rank"], products["code"]], axis=1).astype(np.int32),
        "product_alpha": products["alpha"],
    }
    tables, views = _upload(pieces, device)
    groups = []
    for number in np.unique(part).tolist():
        first, last = np.searchsorted(part, [number, number + 1]).tolist()
        groups.append((int(ends[first] - tiles[first]), int(ends[last - 1]), number >= 2, number % 2 == 1))
    owner = np.zeros(len(products), np.int64)
    for job in jobs:
        owner[job["first"] : job["first"] + job["count"]] = job["slot"]
    keys = list(zip(products["image"].tolist(), owner.tolist()))
    return Launch(
        tables, views, groups, table.code if len(products) else 0, torch.zeros(max(1, len(products)), 3, device=device), keys, form, blocks
    )


def run(launch: Launch, live: Tensor, base: Tensor) -> None:
    """Enqueues the refit on the current stream. `live`, `base`: uint8 memory."""
    v, (limit, cover) = launch.views, LIMITS[launch.form.name]
    for begin, end, coded, aligned in launch.groups:
        _merge[(end - begin,)](
            live, base, v["tile_job"], v["job_place"], v["job_shape"], v["product_address"], v["product_number"], v["product_alpha"], launch.lost, begin,
            FORM=KINDS[launch.form.name], CODED=coded, CODE=launch.code, ALIGNED=aligned, LIMIT=limit, COVER=cover, SHRUNK=SHRUNK, SMALLEST=SMALLEST_SCALE,
            BM=launch.blocks[0], BN=launch.blocks[1], BK=16, num_warps=launch.blocks[2],
        )  # fmt: skip
