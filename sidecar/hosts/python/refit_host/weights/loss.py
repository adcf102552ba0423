"""How much of each adapter's change the stored weights got.

e = stored with the stack - stored without it - what the stack intended; d = what one adapter intended. Its projection is 1 + <e, d> / <d, d>, its lost share |e| / |d|: 1 and 0
when nothing is lost; 0 and 1 when rounding swallows it. A ratio of norms would hide most of that, because what survives arrives as whole steps of the number format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

import torch
from torch import Tensor

from .layout import Layout

# Parameters that a report names for each adapter, those that lost most.
NAMED = 16


@dataclass(frozen=True)
class Sums:
    """<e, e>, <e, d> and <d, d> of one adapter (its position in the stack) on one slot."""

    position: int
    slot: int
    error: float
    cross: float
    own: float

    @property
    def projection(self) -> float:
        return 1 + self.cross / self.own

    @property
    def lost(self) -> float:
        return math.sqrt(max(0.0, self.error) / self.own)


class LossSums:
    """Gathered while a refit is written; fetched from the device once."""

    def __init__(self) -> None:
        self._keys: list[tuple[int, int]] = []
        self._found: list[Tensor] = []

    def note(self, position: int, slot: int, error: Tensor, own: Tensor) -> None:
        """f32 tensors of one shape: what came too much or too little, and what the adapter intended there."""
        e, d = error.flatten(), own.flatten()
        self._keys.append((position, slot))
        # Dot products of f32 are summed pairwise: a relative error far under what a report shows.
        self._found.append(torch.stack([e @ e, e @ d, d @ d]))

    def note_rows(self, keys: Sequence[tuple[int, int]], sums: Tensor) -> None:
        """`sums` [keys, 3]; a key may come again."""
        self._keys += keys
        self._found += list(sums.unbind(0))

    def fetch(self) -> list[Sums]:
        """One entry per adapter and slot whose adapter intends anything there."""
        if not self._keys:
            return []
        table = torch.stack([found.double() for found in self._found]).cpu().tolist()
        joined: dict[tuple[int, int], list[float]] = {}
        for key, row in zip(self._keys, table):
            have = joined.setdefault(key, [0.0, 0.0, 0.0])
            joined[key] = [one + other for one, other in zip(have, row)]
        return [Sums(position, slot, *row) for (position, slot), row in joined.items() if row[2] > 0]


def report(layout: Layout, adapters: Sequence[str], merged: Sequence[Sums], beside: Sequence[Sums]) -> list[dict[str, Any]]:
    """What the host says of each adapter of the stack, in order (protocol/src/host/values.ts, `adapterLoss`). `beside`: of parameters where it is a branch."""
    out = []
    for position, adapter in enumerate(adapters):
        ways = [("merged", each) for each in merged if each.position == position] + [
            ("branch", each) for each in beside if each.position == position
        ]
        if not ways:
            continue
        own = sum(each.own for _, each in ways)
        whole = Sums(position, -1, sum(each.error for _, each in ways), sum(each.cross for _, each in ways), own)
        ways.sort(key=lambda row: (row[1].projection, layout.slots[row[1].slot].name))
        out.append({
            "adapter": adapter, "projection": whole.projection, "lostShare": whole.lost, "merged": sum(way == "merged" for way, _ in ways),
            "branched": sum(way == "branch" for way, _ in ways),
            "parameters": [
                {"parameter": layout.slots[each.slot].name, "way": way, "projection": each.projection, "lostShare": each.lost} for way, each in ways[:NAMED]
            ],
        })  # fmt: skip
    return out
