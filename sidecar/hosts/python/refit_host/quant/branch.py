"""Adapters that stay beside the quantised product as low-rank branches: x A B, exact to remove.

Each layer keeps memory of a reserved rank, so that adapters and ranks within it change without another CUDA graph or compilation; a layer without a branch in the
present stack holds zeros there. With no branch at all, modules without branches step (`variant` 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

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
    squares, counts = {}, {}
    for product in products_of(layout, 0, image, 1.0, buffer, slots):
        up, down = product.up.float(), product.down.float()
        # |A B|^2 = <A^T A, B B^T>
        square = ((up.T @ up) * (down @ down.T)).sum(dtype=torch.float64) * product.alpha**2
        index = product.slot.index
        squares[index] = squares.get(index, 0) + square
        counts[index] = counts.get(index, 0) + up.shape[0] * down.shape[1]
    found = torch.stack([*squares.values()]).cpu().tolist() if squares else []
    return {index: math.sqrt(max(0.0, square) / counts[index]) for index, square in zip(squares, found)}


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
        """Works out what `commit` copies. [beside steps]"""
        mine: dict[int, list[Placed]] = {}
        for product in products:
            mine.setdefault(product.slot.index, []).append(product)
        values, fresh, losses = {}, {}, LossSums()
        for index, several in mine.items():
            slot, rank = several[0].slot, sum(product.down.shape[0] for product in several)
            room = self._rank_of(self.held.get(index))
            if rank > room:
                room = -(-rank // RESERVED) * RESERVED
                fresh[index] = self._empty(slot, room)
            values[index] = self._filled(slot, several, room, losses)
        return Staged(values, fresh, losses)

    def _rank_of(self, branch: Branch | None) -> int:
        return 0 if branch is None else branch.up.shape[1] // (2 if self._codes else 1)

    def _empty(self, slot: Slot, rank: int) -> Branch:
        double = 2 * rank if self._codes else rank
        down = torch.zeros(double, slot.cols, dtype=self._form.code if self._codes else FLOAT, device=self._device)
        return Branch(down, torch.ones(double, 1, device=self._device), torch.zeros(slot.rows, double, dtype=FLOAT, device=self._device))

    def _filled(self, slot: Slot, several: Sequence[Placed], rank: int, losses: LossSums) -> Branch:
        down = torch.zeros(rank, slot.cols, device=self._device)
        up = torch.zeros(slot.rows, rank, device=self._device)
        at = 0
        for product in several:
            count, rows = product.down.shape[0], product.up.shape[0]
            down[at : at + count] = product.down.float()
            up[product.start : product.start + rows, at : at + count] = product.up.float() * product.alpha
            at += count
        short = up.to(FLOAT)
        if self._codes:
            coarse = self._form.encode(down)
            fine = self._form.encode(down - self._form.decode(coarse))
            codes, scale = (
                torch.cat([coarse[name].view(torch.uint8), fine[name].view(torch.uint8)]).view(coarse[name].dtype)
                for name in ("codes", "scale")
            )
            branch = Branch(codes, scale, torch.cat([short, short], 1))
            held = self._form.decode(coarse) + self._form.decode(fine)
        else:
            branch = Branch(down.to(FLOAT), torch.ones(rank, 1, device=self._device), short)
            held = branch.down.float()
        at = 0
        for product in several:
            part = slice(at, at + product.down.shape[0])
            rows = slice(product.start, product.start + product.up.shape[0])
            _note(losses, product, (up[rows, part], down[part]), (short[rows, part].float(), held[part]))
            at = part.stop
        return branch

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


def _note(losses: LossSums, product: Placed, intended: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor]) -> None:
    """Sums of (held - intended), as products of small matrices: <A B, C D> = <A^T C, B D^T>."""

    def inner(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        return ((one[0].T @ other[0]) * (one[1] @ other[1].T)).sum(dtype=torch.float64)

    (up, down), (near_up, near_down) = intended, held
    error = (torch.cat([near_up, up], 1), torch.cat([near_down, -down]))
    sums = torch.stack([inner(error, error), inner(error, intended), inner(intended, intended)])
    losses.note_rows([(product.position, product.slot.index)], sums[None])
