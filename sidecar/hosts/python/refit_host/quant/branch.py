"""Adapters that stay beside the quantised product as low-rank branches: x A B, exact to remove.

Each layer keeps memory of a reserved rank, so that adapters and ranks within it change without another CUDA graph or compilation; a layer without a branch in the
present stack holds zeros there. With no branch at all, modules without branches step (`variant` 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from ..weights.image import DeltaImage
from ..weights.layout import Layout, Slot
from ..weights.loss import LossSums
from ..weights.merge_torch import DTYPES
from .formats import FLOAT, Format

# Rank that every branch reserves; more comes in the same steps.
RESERVED = 64


class Branch(NamedTuple):
    """`down` [rank, cols] and `up` [rows, rank] in bf16. For products of codes: `down` is codes [2 rank, cols], coarse and then what they leave, with `scale` [2 rank, 1], and `up`
    [rows, 2 rank] holds its columns twice."""

    down: Tensor
    scale: Tensor
    up: Tensor

    def rows(self, begin: int, count: int) -> "Branch":
        """Of some rows of the matrix."""
        return Branch(self.down, self.scale, self.up[begin : begin + count])


@dataclass(frozen=True)
class Placed:
    """One adapter's product on a slot. `position`: of the adapter in the stack; `rows`: where its rows lie."""

    position: int
    slot: Slot
    up: Tensor
    down: Tensor
    alpha: float
    start: int


def products_of(layout: Layout, position: int, image: DeltaImage, strength: float, buffer: Tensor, slots: frozenset[int]) -> list[Placed]:
    """The products of an image on `slots`, as views of its factors on the device; columns are turned where the slot's are."""
    out = []
    for row in image.fast[[index in slots for index in image.fast["slot"].tolist()]]:
        slot, rank, length, dtype = layout.slots[int(row["slot"])], int(row["rank"]), int(row["length"]), DTYPES[row["code"]]
        up = buffer[int(row["up"]) :][: length * rank * dtype.itemsize].view(dtype).view(length, rank)
        down = buffer[int(row["down"]) :][: rank * slot.cols * dtype.itemsize].view(dtype).view(rank, slot.cols)
        if row["swap"]:
            up = torch.cat([up[length // 2 :], up[: length // 2]])
        out.append(Placed(position, slot, up, down, strength * float(row["scale"]), int(row["start"])))
    return out


def norms_of(layout: Layout, image: DeltaImage, buffer: Tensor) -> dict[int, float]:
    """Root mean square of an adapter's change at strength 1, over the rows that it changes, of each slot where it is nothing but low-rank products."""
    slots = frozenset(image.fast["slot"].tolist()) - image.slow.keys()
    alike: dict[tuple, list[Placed]] = {}
    for product in products_of(layout, 0, image, 1.0, buffer, slots):
        alike.setdefault((product.up.shape, product.down.shape, product.up.dtype), []).append(product)
    squares: dict[int, float] = {}
    counts: dict[int, int] = {}
    for products in alike.values():
        up, down = (torch.stack(factors).float() for factors in ([p.up for p in products], [p.down for p in products]))
        # |A B|^2 = <A^T A, B B^T>
        found = ((up.mT @ up) * (down @ down.mT)).sum((1, 2), dtype=torch.float64).cpu().tolist()
        for product, square in zip(products, found):
            index = product.slot.index
            squares[index] = squares.get(index, 0.0) + square * product.alpha**2
            counts[index] = counts.get(index, 0) + product.up.shape[0] * product.down.shape[1]
    return {index: math.sqrt(max(0.0, square) / counts[index]) for index, square in squares.items()}


@dataclass(frozen=True)
class Staged:
    """Branches of a refit, worked out beside the live ones. `fresh`: memory for slots that have none, or not enough."""

    values: Mapping[int, Branch]
    fresh: Mapping[int, Branch]
    losses: LossSums


class Branches:
    def __init__(self, form: Format, way: str, device: torch.device) -> None:
        self._form, self._codes, self._device = form, way != "dequantise", device
        self.held: dict[int, Branch] = {}
        # Grows when memory is reserved: modules of another number do not see it.
        self._epoch = 0
        self._active = False

    @property
    def variant(self) -> int:
        """Which modules step on the present weights: 0 those without branches."""
        return self._epoch if self._active else 0

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for branch in self.held.values() for part in branch)

    def stage(self, products: Sequence[Placed]) -> Staged:
        """Works out what `commit` copies, slots of one shape at a time. [beside steps]"""
        mine: dict[int, list[Placed]] = {}
        for product in products:
            mine.setdefault(product.slot.index, []).append(product)
        alike: dict[tuple, list[int]] = {}
        fresh: dict[int, Branch] = {}
        for index, several in mine.items():
            slot, rank = several[0].slot, sum(product.down.shape[0] for product in several)
            room = self._rank_of(self.held.get(index))
            if rank > room:
                room = -(-rank // RESERVED) * RESERVED
                fresh[index] = self._empty(slot, room)
            parts = tuple((product.position, product.start, *product.up.shape) for product in several)
            alike.setdefault((slot.rows, slot.cols, room, parts), []).append(index)
        values, losses = {}, LossSums()
        for (_, _, room, _), indices in alike.items():
            values.update(zip(indices, self._filled([mine[index] for index in indices], room, losses)))
        return Staged(values, fresh, losses)

    def _rank_of(self, branch: Branch | None) -> int:
        return 0 if branch is None else branch.up.shape[1] // (2 if self._codes else 1)

    def _empty(self, slot: Slot, rank: int) -> Branch:
        double = 2 * rank if self._codes else rank
        down = torch.zeros(double, slot.cols, dtype=self._form.code if self._codes else FLOAT, device=self._device)
        return Branch(down, torch.ones(double, 1, device=self._device), torch.zeros(slot.rows, double, dtype=FLOAT, device=self._device))

    def _filled(self, slots: Sequence[Sequence[Placed]], rank: int, losses: LossSums) -> list[Branch]:
        """Branches of slots of one size whose products have the same places and sizes."""
        count, slot = len(slots), slots[0][0].slot
        down = torch.zeros(count, rank, slot.cols, device=self._device)
        up = torch.zeros(count, slot.rows, rank, device=self._device)
        parts, at = [], 0
        for several in zip(*slots):
            rows, ranks = slice(several[0].start, several[0].start + several[0].up.shape[0]), slice(at, at + several[0].down.shape[0])
            down[:, ranks] = torch.stack([product.down for product in several])
            alpha = torch.tensor([product.alpha for product in several], device=self._device)[:, None, None]
            up[:, rows, ranks] = torch.stack([product.up for product in several]).float() * alpha
            parts.append((several, rows, ranks))
            at = ranks.stop
        short = up.to(FLOAT)
        if self._codes:
            # Every row has its own scale: rows of all slots are coded at once.
            flat = down.view(count * rank, slot.cols)
            coarse = self._form.encode(flat)
            near = self._form.decode(coarse)
            fine = self._form.encode(flat - near)
            held = (near + self._form.decode(fine)).view_as(down)
            codes, scale = (
                torch.cat([part[name].view(torch.uint8).view(count, rank, -1) for part in (coarse, fine)], 1).view(coarse[name].dtype)
                for name in ("codes", "scale")
            )
            wide = torch.cat([short, short], 2)
            branches = [Branch(*each) for each in zip(codes, scale, wide)]
        else:
            near = down.to(FLOAT)
            held = near.float()
            branches = [Branch(each, torch.ones(rank, 1, device=self._device), other) for each, other in zip(near, short)]
        for several, rows, ranks in parts:
            _note(losses, several, (up[:, rows, ranks], down[:, ranks]), (short[:, rows, ranks].float(), held[:, ranks]))
        return branches

    def commit(self, staged: Staged) -> None:
        """Between steps. Everything of the stack before is gone."""
        if staged.fresh:
            self.held |= staged.fresh
            self._epoch += 1
        self._active = bool(staged.values)
        if not self._active:
            return
        for index, branch in self.held.items():
            if index not in staged.values:
                branch.up.zero_()
        targets = [part.view(torch.uint8) for index in staged.values for part in self.held[index]]
        torch._foreach_copy_(targets, [part.view(torch.uint8) for branch in staged.values.values() for part in branch])

    def clear(self) -> None:
        """Gives the memory back; the next branch reserves it anew."""
        self.held, self._active = {}, False


def _note(losses: LossSums, products: Sequence[Placed], intended: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor]) -> None:
    """Sums of (held - intended) of each product, as products of small matrices: <A B, C D> = <A^T C, B D^T>."""

    def inner(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        return ((one[0].mT @ other[0]) * (one[1] @ other[1].mT)).sum((1, 2), dtype=torch.float64)

    (up, down), (near_up, near_down) = intended, held
    error = (torch.cat([near_up, up], 2), torch.cat([near_down, -down], 1))
    sums = torch.stack([inner(error, error), inner(error, intended), inner(intended, intended)], 1)
    losses.note_rows(np.array([(product.position, product.slot.index) for product in products]), sums)
