"""How much of each adapter's change the stored weights got.

e = stored with the stack - stored without it - what the stack intended; d = what one adapter intended. Its projection is 1 + <e, d> / <d, d>, its lost share |e| / |d|: 1 and 0
when nothing is lost; 0 and 1 when rounding swallows it. A ratio of norms would hide most of that, because what survives arrives as whole steps of the number format.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor

from .layout import Layout

# Parameters that a report names for each adapter, those that lost most.
NAMED = 16


@dataclass(frozen=True)
class Found:
    """Rows of <e, e>, <e, d> and <d, d>: of the adapter at `position` of the stack on `slot`. [rows], [rows], [rows, 3] f64"""

    position: np.ndarray
    slot: np.ndarray
    sums: np.ndarray

    def where(self, chosen: np.ndarray) -> "Found":
        return Found(self.position[chosen], self.slot[chosen], self.sums[chosen])

    @staticmethod
    def joined(parts: Sequence["Found"]) -> "Found":
        return Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("position", "slot", "sums")))

    @staticmethod
    def none() -> "Found":
        return Found(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))

    @property
    def projection(self) -> np.ndarray:
        return 1 + self.sums[:, 1] / self.sums[:, 2]

    @property
    def lost(self) -> np.ndarray:
        return np.sqrt(np.maximum(0.0, self.sums[:, 0]) / self.sums[:, 2])


class LossSums:
    """Gathered while a refit is written; fetched from the device once."""

    def __init__(self) -> None:
        self._keys: list[np.ndarray] = []
        self._found: list[Tensor] = []

    def note(self, position: int, slot: int, error: Tensor, own: Tensor) -> None:
        """f32 tensors of one shape: what came too much or too little, and what the adapter intended there."""
        e, d = error.flatten(), own.flatten()
        # Dot products of f32 are summed pairwise: a relative error far under what a report shows.
        self.note_rows(np.array([[position, slot]]), torch.stack([e @ e, e @ d, d @ d])[None])

    def note_rows(self, keys: np.ndarray, sums: Tensor) -> None:
        """`keys` [rows, 2]: position and slot; `sums` [rows, 3]. A key may come again."""
        self._keys.append(keys.reshape(-1, 2).astype(np.int64))
        self._found.append(sums)

    def fetch(self) -> Found:
        """One row per adapter and slot whose adapter intends anything there."""
        if not self._keys:
            return Found.none()
        table = torch.cat(self._found).cpu().double().numpy()
        keys, place = np.unique(np.concatenate(self._keys), axis=0, return_inverse=True)
        sums = np.stack([np.bincount(place.reshape(-1), column, len(keys)) for column in table.T], axis=1)
        return Found(keys[:, 0], keys[:, 1], sums).where(sums[:, 2] > 0)


class Ledger:
    """What the present stack lost, over refits that write some of its slots."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._held = Found.none()

    def update(self, adapters: Sequence[str], written: np.ndarray, found: Found) -> Found:
        """Takes the rows of a refit in the place of those of all slots that it wrote. `adapters`: the stack. Returns all rows, by positions of this stack."""
        names = _apart(adapters)
        now = {name: position for position, name in enumerate(names)}
        moved = np.array([now.get(name, -1) for name in self._names] or [-1], np.int64)
        kept = self._held.where(~np.isin(self._held.slot, written))
        kept = Found(moved[kept.position], kept.slot, kept.sums)
        self._names, self._held = names, Found.joined([kept.where(kept.position >= 0), found])
        return self._held


def _apart(adapters: Sequence[str]) -> list[str]:
    """Names of a stack's members: an adapter may be there twice."""
    seen: Counter[str] = Counter()
    out = []
    for adapter in adapters:
        out.append(f"{adapter} {seen[adapter]}")
        seen[adapter] += 1
    return out


def report(layout: Layout, adapters: Sequence[str], merged: Found, beside: Found) -> list[dict[str, Any]]:
    """What the host says of each adapter of the stack, in order (protocol/src/host/values.ts, `adapterLoss`). `beside`: of parameters where it is a branch."""
    out = []
    every, is_merged = Found.joined([merged, beside]), np.arange(len(merged.slot) + len(beside.slot)) < len(merged.slot)
    for position, adapter in enumerate(adapters):
        mine = every.position == position
        if not mine.any():
            continue
        rows, ways = every.where(mine), is_merged[mine]
        whole = Found(np.array([position]), np.array([-1]), rows.sums.sum(axis=0, keepdims=True))
        projections, lost = rows.projection, rows.lost
        worst = np.lexsort((rows.slot, projections))[:NAMED].tolist()
        out.append({
            "adapter": adapter, "projection": float(whole.projection[0]), "lostShare": float(whole.lost[0]), "merged": int(ways.sum()),
            "branched": int((~ways).sum()),
            "parameters": [
                {"parameter": layout.slots[rows.slot[row]].name, "way": "merged" if ways[row] else "branch", "projection": float(projections[row]),
                 "lostShare": float(lost[row])}
                for row in worst
            ],
        })  # fmt: skip
    return out
