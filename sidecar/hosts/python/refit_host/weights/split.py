"""Which weights stay on the device when not all of them fit, and which are copied there block by block during a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

from ..failure import HostFailure
from .layout import ALIGN, Layout

# Two blocks on the device at a time: one runs while the next arrives.
BUFFERS = 2


@dataclass(frozen=True)
class Unit:
    """A submodule that a step enters once, by its path, and the canonical parameters that nothing else uses."""

    path: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A unit whose weights live in host memory: bytes [begin, end) of the arena."""

    path: str
    begin: int
    end: int


@dataclass(frozen=True)
class Split:
    """Bytes [0, near_bytes) of the arena stay on the device; `blocks`, in the order of a step, make up the rest."""

    near_bytes: int
    blocks: tuple[Block, ...]

    @property
    def buffer_bytes(self) -> int:
        return max(block.end - block.begin for block in self.blocks)


def parts_of(units: Sequence[Unit]) -> dict[str, int]:
    """For Layout.build: parameters of streamed units last, a unit's together, in the order of a step."""
    return {name: number for number, unit in enumerate(units, 1) for name in unit.parameters}


def split_of(layout: Layout, units: Sequence[Unit]) -> Split:
    """The split of a layout built with `parts_of(units)`."""
    blocks = []
    for unit in units:
        slots = [layout.by_name[name] for name in unit.parameters]
        blocks.append(Block(unit.path, min(slot.offset for slot in slots), max(slot.offset + slot.nbytes for slot in slots)))
    return Split(blocks[0].begin, tuple(blocks))


def choose_streamed(units: Sequence[Unit], sizes: Mapping[str, int], room: int) -> list[Unit]:
    """Units to stream so that all else and the buffers fit into `room` bytes, spread evenly over the step: copies then hide behind
    the blocks between them. `sizes`: bytes per parameter. Raises HOST_OUT_OF_MEMORY when even streaming every unit is not enough."""
    weight = [sum(_aligned(sizes[name]) for name in unit.parameters) for unit in units]
    total, all_units = sum(map(_aligned, sizes.values())), sum(weight)
    excess = total - (room - BUFFERS * max(weight, default=0))
    if excess > all_units:
        needed = total - all_units + BUFFERS * max(weight, default=0)
        raise HostFailure("HOST_OUT_OF_MEMORY", "not enough device memory even with weights streamed from host memory: raise --vram-cap, let the UI unload its "
                          "models, or use a smaller picture, batch or precision", {"bytes": needed, "freeBytes": room})  # fmt: skip
    share = max(0, excess) / max(1, all_units)
    while True:
        chosen, owed = [], 0.0
        for unit, size in zip(units, weight):
            owed += share * size
            if owed >= size / 2:
                chosen.append((unit, size))
                owed -= size
        if sum(size for _, size in chosen) >= min(excess, all_units):
            return [unit for unit, _ in chosen]
        share = min(1.0, share + 0.01)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN
