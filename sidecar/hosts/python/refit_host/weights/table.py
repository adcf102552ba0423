"""The merge as a table: which rows of which matrices get which low-rank products. Pure numpy; kernels and fallback read it.

A job is a block of rows of one matrix that takes the same products; slices and swapped halves only split a matrix into
more jobs. Building it for 722 layers and a stack of 5 must stay near a millisecond, so whole matrices are handled as arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Sequence

import numpy as np

from .image import FAST
from .layout import Layout, Slot

JOB = np.dtype([("slot", "<i4"), ("row", "<i4"), ("rows", "<i4"), ("cols", "<i4"), ("first", "<i4"), ("count", "<i4")])
PRODUCT = np.dtype(
    [("up", "<i8"), ("down", "<i8"), ("rank", "<i4"), ("code", "<i4"), ("alpha", "<f4"), ("image", "<i4"), ("joined", "<i4")]
)


@dataclass(frozen=True)
class MergeTable:
    """`jobs`: JOB rows; `products`: PRODUCT rows, those of a job lie together; a `joined` one is multiplied with the next, element by element. Positions are byte
    offsets into the image's factors."""

    jobs: np.ndarray
    products: np.ndarray

    @property
    def followed(self) -> np.ndarray:
        """Of each product: whether the next one of its job is of the same image."""
        job = self._job_of
        image, out = self.products["image"], np.zeros(len(job), np.int32)
        out[:-1] = (job[1:] == job[:-1]) & (image[1:] == image[:-1])
        return out

    @property
    def owners(self) -> np.ndarray:
        """Image and slot of each product [products, 2]."""
        return np.stack([self.products["image"], self.jobs["slot"][self._job_of]], axis=1)

    @cached_property
    def _job_of(self) -> np.ndarray:
        """The job of each product; they lie in the order of the jobs, but for those of split matrices."""
        first, count = self.jobs["first"].astype(np.int64), self.jobs["count"].astype(np.int64)
        out = np.zeros(len(self.products), np.int64)
        out[np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())] = np.repeat(np.arange(len(self.jobs)), count)
        return out

    @property
    def code(self) -> int:
        """Factor dtype code when all products agree, 3 when they differ."""
        codes = np.unique(self.products["code"])
        return int(codes[0]) if len(codes) == 1 else 3


def _merged_rows(stack: Sequence[tuple[np.ndarray, float]], keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fast rows of all images for the kept slots, ordered by slot and then by stack position."""
    rows = [fast[keep[fast["slot"]]] for fast, _ in stack]
    image = np.repeat(np.arange(len(rows), dtype=np.int32), [len(r) for r in rows])
    strength = np.repeat(np.array([s for _, s in stack], dtype=np.float64), [len(r) for r in rows])
    joined = np.concatenate(rows) if rows else np.zeros(0, FAST)
    order = np.argsort(joined["slot"], kind="stable")
    return joined[order], image[order], strength[order]


def _products(rows: np.ndarray, image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    out = np.zeros(len(rows), PRODUCT)
    for field in ("up", "down", "rank", "code", "joined"):
        out[field] = rows[field]
    out["alpha"] = (strength * rows["scale"]).astype(np.float32)
    out["image"] = image
    return out


def _split(slot: Slot, rows: np.ndarray, products: np.ndarray, item: np.ndarray) -> tuple[list[tuple], list[np.ndarray]]:
    """Jobs of one matrix with slices or swapped halves. `item`: bytes per factor element of each product."""
    half = slot.rows // 2
    cuts = {0, slot.rows} | ({half} if slot.swap_halves else set())
    for row in rows:
        cuts |= {int(row["start"]), int(row["start"] + row["length"])}
        if row["swap"]:
            cuts.add(int(row["start"] + row["length"] // 2))
    edges = sorted(cuts)
    jobs, kept = [], []
    for begin, end in zip(edges, edges[1:]):
        inside = (rows["start"] <= begin) & (rows["start"] + rows["length"] >= end)
        chosen = products[inside].copy()
        local = begin - rows["start"][inside].astype(np.int64)
        length = rows["length"][inside].astype(np.int64)
        local = np.where(rows["swap"][inside] == 1, (local + length // 2) % np.maximum(length, 1), local)
        chosen["up"] += local * chosen["rank"] * item[inside]
        place = (begin + half) % slot.rows if slot.swap_halves else begin
        jobs.append((slot.index, place, end - begin, slot.cols, len(chosen)))
        kept.append(chosen)
    return jobs, kept


def build_table(layout: Layout, stack: Sequence[tuple[np.ndarray, float]], slots: Sequence[Slot]) -> MergeTable:
    """Jobs for `slots` (matrices whose terms are all fast). A slot without products becomes a job without products: a restore."""
    keep = np.zeros(len(layout.slots), bool)
    keep[[slot.index for slot in slots]] = True
    rows, image, strength = _merged_rows(stack, keep)
    products = _products(rows, image, strength)
    heights, widths = layout.table[:, 1].astype(np.int32), layout.table[:, 2].astype(np.int32)
    partial = (rows["swap"] == 1) | (rows["start"] != 0) | (rows["length"] != heights[rows["slot"]])
    odd_slots = layout.swapped & keep
    odd_slots[rows["slot"][partial]] = True
    odd = np.flatnonzero(odd_slots).tolist()
    plain = np.flatnonzero(keep & ~odd_slots).astype(np.int32)
    is_odd = odd_slots[rows["slot"]]
    counts = np.bincount(rows["slot"][~is_odd], minlength=len(layout.slots))[plain] if len(plain) else plain
    jobs = np.zeros(len(plain), JOB)
    jobs["slot"], jobs["rows"], jobs["cols"], jobs["count"] = plain, heights[plain], widths[plain], counts
    jobs["first"] = np.cumsum(counts) - counts
    parts, extra, at = [products[~is_odd]], [], int((~is_odd).sum())
    item = np.where(rows["code"] == 2, 4, 2)
    for index in odd:
        mine = rows["slot"] == index
        for (slot, row, height, cols, count), chosen in zip(*_split(layout.slots[index], rows[mine], products[mine], item[mine])):
            extra.append((slot, row, height, cols, at, count))
            parts.append(chosen)
            at += count
    return MergeTable(np.concatenate([jobs, np.array(extra, JOB)]), np.concatenate(parts))
