"""Merge and codes in two launches over tiles of all matrices: the first finds each row's largest magnitude, before and after; the second makes its scale and writes its codes, and
sums what rounding lost of each product.

Both read the base (values, or the file's own codes) and add the low-rank products in f32. A tile that is read twice costs less than a row that one program walks along: there the
card waits for memory.
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

from ..weights.merge_triton import _product, _upload, product_pieces
from ..weights.table import MergeTable
from . import fp8, int8
from .formats import Format
from .product_triton import nearest
from .row_scale import SHRUNK, SMALLEST_SCALE

# Rows and columns of a tile, warps, tiles that one program walks along (bench/gpu, piece "quant_kernels").
Blocks = tuple[int, int, int, int]
BLOCKS: Blocks = (64, 128, 4, 8)
KINDS = {"fp8": 1, "int8": 2}
LIMITS = {"fp8": (fp8.LIMIT, fp8.COVER), "int8": (int8.LIMIT, int8.COVER)}


@triton.jit
def _scaled(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE: tl.constexpr, ALIGNED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
            BK: tl.constexpr):  # fmt: skip
    """A tile of one low-rank product."""
    return tl.load(product_alpha + p) * _product(p, product_address, product_number, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)


@triton.jit
def _rounded(value, inverse, scale, FORM: tl.constexpr, LIMIT: tl.constexpr):
    """The values of the codes of rows with these scales, in scales: value / scale rounded to the nearest code. `inverse`: 1 / scale.

    The product with the reciprocal, and what it is off by, is the quotient rounded once (Markstein)."""
    near = value * inverse[:, None]
    off = tl.fma(-near, tl.zeros_like(value) + scale[:, None], value)
    quotient = tl.fma(off, tl.zeros_like(value) + inverse[:, None], near)
    # One return: the compiler goes on past one inside of an `if`, and finds two types.
    if FORM == 1:
        out = tl.minimum(tl.maximum(quotient, -LIMIT), LIMIT)
    else:
        out = tl.minimum(tl.maximum(nearest(quotient), -LIMIT - 1.0), LIMIT)
    return out


@triton.jit
def _place(tile, job_shape, job, BM: tl.constexpr, WIDE: tl.constexpr):
    """Rows of a tile as the job counts them, its first column, and the job's sizes."""
    rows, cols = tl.load(job_shape + job * 5), tl.load(job_shape + job * 5 + 1)
    cols = tl.multiple_of(cols, 16)
    index = tile - tl.load(job_shape + job * 5 + 4)
    across = tl.cdiv(cols, WIDE)
    return (index // across) * BM + tl.arange(0, BM), (index % across) * WIDE, rows, cols


@triton.jit
def _values(base, at, place, inside, old, FORM: tl.constexpr, CODED: tl.constexpr):
    """A tile of pristine values in f32."""
    if CODED:
        code_type = tl.float8e4nv if FORM == 1 else tl.int8
        value = tl.load((base + at).to(tl.pointer_type(code_type)) + place, mask=inside, other=0.0).to(tl.float32) * old[:, None]
    else:
        value = tl.load((base + at).to(tl.pointer_type(tl.bfloat16)) + place, mask=inside, other=0.0).to(tl.float32)
    return value


@triton.jit
def _base_scale(base, job_place, job, rm, rows, CODED: tl.constexpr):
    """Scales of rows whose base is codes, else ones."""
    old = tl.zeros_like(rm).to(tl.float32) + 1.0
    if CODED:
        old = tl.load((base + tl.load(job_place + job * 4 + 1)).to(tl.pointer_type(tl.float32)) + rm, mask=rm < rows, other=1.0)
    return old


# The first tile of a launch may be any number: each kind of number would be compiled for itself.
@triton.jit(do_not_specialize=["tile_start"])
def _peaks(
    base, peaks, tile_job, job_place, job_shape, job_row, product_address, product_number, product_alpha, tile_start,
    FORM: tl.constexpr, CODED: tl.constexpr, CODE: tl.constexpr, ALIGNED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, SPAN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """`peaks` [rows of all jobs, 2]: bits of the largest magnitude of each row, pristine and merged. Bits of positive numbers are ordered as the numbers are."""
    tile = tl.program_id(0) + tile_start
    job = tl.load(tile_job + tile)
    rm, column, rows, cols = _place(tile, job_shape, job, BM, BN * SPAN)
    first, count = tl.load(job_shape + job * 5 + 2), tl.load(job_shape + job * 5 + 3)
    there, wide = rm < rows, rm.to(tl.int64)[:, None] * cols
    at = tl.multiple_of(tl.load(job_place + job * 4), 16)
    old = _base_scale(base, job_place, job, rm, rows, CODED)
    pristine, merged = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    for begin in range(column, tl.minimum(column + BN * SPAN, cols), BN):
        rn = begin + tl.arange(0, BN)
        inside = there[:, None] & (rn < cols)[None, :]
        value = _values(base, at, wide + rn[None, :], inside, old, FORM, CODED)
        pristine = tl.maximum(pristine, tl.max(tl.abs(value), axis=1))
        if count > 0:
            for p in range(first, first + count):
                value += _scaled(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)
            merged = tl.maximum(merged, tl.max(tl.abs(value), axis=1))
    mine = peaks + (tl.load(job_row + job) + rm) * 2
    tl.atomic_max(mine, pristine.to(tl.int32, bitcast=True), mask=there, sem="relaxed")
    tl.atomic_max(mine + 1, merged.to(tl.int32, bitcast=True), mask=there, sem="relaxed")


@triton.jit(do_not_specialize=["tile_start"])
def _merge(
    live, base, peaks, tile_job, job_place, job_shape, job_row, product_address, product_number, product_alpha, lost, tile_start,
    FORM: tl.constexpr, CODED: tl.constexpr, CODE: tl.constexpr, ALIGNED: tl.constexpr, LIMIT: tl.constexpr, COVER: tl.constexpr, SHRUNK: tl.constexpr,
    SMALLEST: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, SPAN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0) + tile_start
    job = tl.load(tile_job + tile)
    rm, column, rows, cols = _place(tile, job_shape, job, BM, BN * SPAN)
    first, count = tl.load(job_shape + job * 5 + 2), tl.load(job_shape + job * 5 + 3)
    there, wide = rm < rows, rm.to(tl.int64)[:, None] * cols
    at, live_at = tl.multiple_of(tl.load(job_place + job * 4), 16), tl.multiple_of(tl.load(job_place + job * 4 + 2), 16)
    old = _base_scale(base, job_place, job, rm, rows, CODED)
    mine = peaks + (tl.load(job_row + job) + rm) * 2
    peak_before = tl.load(mine, mask=there, other=0).to(tl.float32, bitcast=True)
    peak = peak_before
    if count > 0:
        peak = tl.load(mine + 1, mask=there, other=0).to(tl.float32, bitcast=True)
    limit = tl.zeros_like(peak) + LIMIT
    if not CODED:
        old = tl.maximum(tl.math.div_rn(peak_before, limit), SMALLEST)
    fresh = tl.maximum(tl.math.div_rn(peak, limit), SMALLEST)
    enough = peak >= SHRUNK * peak_before
    if FORM == 1:
        kept = old * tl.exp2(tl.ceil(tl.log2(tl.maximum(tl.math.div_rn(peak, old * COVER), 1.0))))
        scale = tl.where(enough & (peak_before > 0) & (kept < 3e38) & (old >= SMALLEST), kept, fresh)
    else:
        scale = tl.where(enough & (peak <= tl.maximum(old * COVER, peak_before)), old, fresh)
    tl.store((live + tl.load(job_place + job * 4 + 3)).to(tl.pointer_type(tl.float32)) + rm, scale, mask=there & (column == 0))
    inverse, old_inverse = tl.math.div_rn(tl.zeros_like(scale) + 1.0, scale), tl.math.div_rn(tl.zeros_like(old) + 1.0, old)
    code_type = tl.float8e4nv if FORM == 1 else tl.int8
    target = (live + live_at).to(tl.pointer_type(code_type))
    errors, crosses, owns = tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32), tl.zeros([BM], tl.float32)
    for begin in range(column, tl.minimum(column + BN * SPAN, cols), BN):
        rn = begin + tl.arange(0, BN)
        inside = there[:, None] & (rn < cols)[None, :]
        before = _values(base, at, wide + rn[None, :], inside, old, FORM, CODED)
        change = tl.zeros([BM, BN], tl.float32)
        for p in range(first, first + count):
            change += _scaled(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)
        after = _rounded(before + change, inverse, scale, FORM, LIMIT)
        codes = after.to(code_type)
        tl.store(target + wide + rn[None, :], codes, mask=inside)
        if count > 0:
            if FORM == 1:
                after = codes.to(tl.float32)
            if not CODED:
                before = _rounded(before, old_inverse, old, FORM, LIMIT)
                if FORM == 1:
                    before = before.to(code_type).to(tl.float32)
                before *= old[:, None]
            # Outside of the matrix everything is zero.
            error = after * scale[:, None] - before - change
            if count == 1:
                errors += tl.sum(error * error, axis=1)
                crosses += tl.sum(error * change, axis=1)
                owns += tl.sum(change * change, axis=1)
            else:
                square = tl.sum(tl.sum(error * error, axis=1), axis=0)
                own = tl.zeros([BM, BN], tl.float32)
                for p in range(first, first + count):
                    own += _scaled(p, product_address, product_number, product_alpha, rm, rn, rows, cols, CODE, ALIGNED, BM, BN, BK)
                    last = tl.load(product_number + p * 4 + 3) == 0
                    tl.atomic_add(lost + p * 3, square, mask=last, sem="relaxed")
                    tl.atomic_add(lost + p * 3 + 1, tl.sum(tl.sum(error * own, axis=1), axis=0), mask=last, sem="relaxed")
                    tl.atomic_add(lost + p * 3 + 2, tl.sum(tl.sum(own * own, axis=1), axis=0), mask=last, sem="relaxed")
                    own = tl.where(last, 0.0, own)
    if count == 1:
        tl.atomic_add(lost + first * 3, tl.sum(errors, axis=0), sem="relaxed")
        tl.atomic_add(lost + first * 3 + 1, tl.sum(crosses, axis=0), sem="relaxed")
        tl.atomic_add(lost + first * 3 + 2, tl.sum(owns, axis=0), sem="relaxed")


@dataclass(frozen=True)
class Launch:
    """Tables of one refit on the device. `groups`: (begin, end, the base is codes, aligned) of tiles. `peaks`: what the first launch finds of each row. `lost` [products, 3]: sums
    of each product. Both are zeros until it ran; it runs once."""

    tables: Tensor
    views: Mapping[str, Tensor]
    groups: Sequence[tuple[int, int, bool, bool]]
    code: int
    peaks: Tensor
    lost: Tensor
    keys: np.ndarray
    form: Format
    blocks: Blocks


def prepare(
    form: Format, table: MergeTable, places: Mapping[int, tuple[int, int, int, int]], factors: Sequence[Tensor], device: torch.device,
    blocks: Blocks | None = None,
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
    tiles = -(-jobs["rows"] // blocks[0]) * -(-jobs["cols"] // (blocks[1] * blocks[3]))
    ends = np.cumsum(tiles)
    pieces = {
        "job_place": where,
        "tile_job": np.repeat(np.arange(len(jobs), dtype=np.int32), tiles),
        "job_shape": np.stack([jobs["rows"], jobs["cols"], jobs["first"], jobs["count"], ends - tiles], axis=1).astype(np.int32),
        **product_pieces(table, factors),
        "job_row": (np.cumsum(jobs["rows"]) - jobs["rows"]).astype(np.int64),
    }
    tables, views = _upload(pieces, device)
    groups = []
    for number in np.unique(part).tolist():
        first, last = np.searchsorted(part, [number, number + 1]).tolist()
        groups.append((int(ends[first] - tiles[first]), int(ends[last - 1]), number >= 2, number % 2 == 1))
    peaks = torch.zeros(max(1, int(jobs["rows"].sum())), 2, dtype=torch.int32, device=device)
    lost = torch.zeros(max(1, len(products)), 3, device=device)
    return Launch(tables, views, groups, table.code if len(products) else 0, peaks, lost, table.owners, form, blocks)


def run(launch: Launch, live: Tensor, base: Tensor) -> None:
    """Enqueues the refit on the current stream. `live`, `base`: uint8 memory."""
    v, (limit, cover), (bm, bn, warps, span) = launch.views, LIMITS[launch.form.name], launch.blocks
    products = (v["product_address"], v["product_number"], v["product_alpha"])
    for begin, end, coded, aligned in launch.groups:
        sizes = {
            "FORM": KINDS[launch.form.name],
            "CODED": coded,
            "CODE": launch.code,
            "ALIGNED": aligned,
            "BM": bm,
            "BN": bn,
            "SPAN": span,
            "BK": 16,
            "num_warps": warps,
        }
        jobs = (v["tile_job"], v["job_place"], v["job_shape"], v["job_row"])
        _peaks[(end - begin,)](base, launch.peaks, *jobs, *products, begin, **sizes)
        _merge[(end - begin,)](
            live, base, launch.peaks, *jobs, *products, launch.lost, begin, LIMIT=limit, COVER=cover, SHRUNK=SHRUNK, SMALLEST=SMALLEST_SCALE, **sizes
        )  # fmt: skip
