"""Where every parameter lies in the arena: one block of device memory that holds all weights of an engine.

One block makes restoring everything a single copy, and makes a slice of a fused parameter (qkv in one matrix) a view instead of a copy.
Matrices come first, so that what adapters touch is nearly contiguous; equal shapes lie together, so that they merge as one batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Mapping

import numpy as np
import torch
from torch import Tensor

from ..rotation import rotate

# Enough for every vector load and for cuBLAS/cuDNN's own alignment wishes.
ALIGN = 256


@dataclass(frozen=True)
class Slot:
    """One canonical parameter in the arena.

    `channels_last`: stored as [o, k.., i] (what cuDNN's tensor-core kernels read); `swap_halves`: the engine's rows are the
    parameter's with halves exchanged; `rotation`: groups of so many columns are turned (rotation.py), 0 for none.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    channels_last: bool
    swap_halves: bool
    rotation: int = 0

    # Asked for by the thousand in every refit.
    @cached_property
    def count(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize

    @cached_property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @cached_property
    def cols(self) -> int:
        return self.count // self.rows if self.rows else 0

    def physical(self, arena: Tensor) -> Tensor:
        """[rows, cols] as stored."""
        return arena[self.offset : self.offset + self.nbytes].view(self.dtype).view(self.rows, self.cols)

    def view(self, arena: Tensor) -> Tensor:
        """The parameter's own shape, engine row order: what a module binds."""
        flat = arena[self.offset : self.offset + self.nbytes].view(self.dtype)
        if not self.channels_last:
            return flat.view(self.shape)
        out, inside, *kernel = self.shape
        return flat.view(out, *kernel, inside).movedim(-1, 1)

    def put(self, arena: Tensor, canonical: Tensor) -> None:
        """Writes a value given in canonical order; converts dtype with one rounding."""
        target = self.view(arena)
        if self.rotation:
            canonical = rotate(canonical.float(), self.rotation)
        if self.swap_halves:
            half = self.rows // 2
            target[:half].copy_(canonical[half:])
            target[half:].copy_(canonical[:half])
        else:
            target.copy_(canonical)

    def get(self, arena: Tensor) -> Tensor:
        """The value in canonical order (a view where possible)."""
        value = self.view(arena)
        if self.rotation:
            value = rotate(value.float(), self.rotation).to(self.dtype)
        return torch.cat([value[self.rows // 2 :], value[: self.rows // 2]]) if self.swap_halves else value


def _place(name: str) -> str:
    """What orders parameters of one shape: the name, with an attention's output layer behind its queries, keys and values, which then are neighbours."""
    return name.replace(".to_out.", ".~to_out.")


@dataclass(frozen=True)
class Layout:
    slots: tuple[Slot, ...]
    by_name: Mapping[str, Slot]
    nbytes: int

    @staticmethod
    def build(
        shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, *, channels_last: bool = False,
        swapped: frozenset[str] = frozenset(), part: Mapping[str, int] = MappingProxyType({}), rotated: Mapping[str, int] = MappingProxyType({}),
    ) -> "Layout":  # fmt: skip
        """Places every parameter. `channels_last` applies to convolution kernels larger than one. `part`: number per parameter (0
        when absent); those of one number lie together, in the order of numbers. `rotated`: columns of a group that is turned, of parameters that have such."""
        names = sorted(shapes, key=lambda name: (part.get(name, 0), len(shapes[name]) < 2, shapes[name], _place(name)))
        slots, offset = [], 0
        for index, name in enumerate(names):
            shape = shapes[name]
            spatial = channels_last and len(shape) in (4, 5) and math.prod(shape[2:]) > 1
            slot = Slot(index, name, shape, dtype, offset, spatial, name in swapped, rotated.get(name, 0))
            slots.append(slot)
            offset += (slot.nbytes + ALIGN - 1) // ALIGN * ALIGN
        return Layout(tuple(slots), {slot.name: slot for slot in slots}, offset)

    @cached_property
    def table(self) -> np.ndarray:
        """int64 [slots, 3]: offset in bytes, rows, columns of every slot, by index."""
        return np.array([(slot.offset, slot.rows, slot.cols) for slot in self.slots], np.int64).reshape(-1, 3)

    @cached_property
    def sizes(self) -> np.ndarray:
        """int64: bytes of every slot, by index."""
        return np.array([slot.nbytes for slot in self.slots], np.int64)

    @cached_property
    def swapped(self) -> np.ndarray:
        """bool: slots with exchanged halves, by index."""
        return np.array([slot.swap_halves for slot in self.slots], bool)

    def shifted(self, begin: int) -> "Layout":
        """The same slots for a buffer whose first byte is arena position `begin`."""
        slots = tuple(replace(slot, offset=slot.offset - begin) for slot in self.slots)
        return Layout(slots, {slot.name: slot for slot in slots}, self.nbytes)

    def ranges(self, slots: list[Slot], limit: int | None = None) -> list[tuple[int, int, list[Slot]]]:
        """Byte ranges that cover `slots`, neighbours joined, each at most about `limit` bytes: (begin, end, slots inside)."""
        out: list[tuple[int, int, list[Slot]]] = []
        previous = -2
        for slot in sorted(slots, key=lambda s: s.index):
            end = slot.offset + slot.nbytes
            grows = slot.index == previous + 1 and (limit is None or end - out[-1][0] <= limit)
            if grows:
                begin, _, inside = out[-1]
                inside.append(slot)
                out[-1] = (begin, end, inside)
            else:
                out.append((slot.offset, end, [slot]))
            previous = slot.index
        return out
