"""A delta file as the merge kernels want it: all factors in one buffer, plus one row of numbers per fast term.

Fast: a plain low-rank product, or two of them multiplied element by element (LoHa). Its `down` is stored with columns in the weight's physical order (and
turned where the weight's are), so the kernel never permutes; everything else goes through the term evaluator.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from ..failure import HostFailure, expect
from ..files.delta import DeltaFile
from ..files.dtypes import FLOAT_DTYPES, TORCH_OF_FILE
from ..files.safetensors_header import Entry
from ..rotation import rotate
from ..terms.term import Term
from .host_memory import pin
from .layout import Layout, Slot
from .read_factors import Span, read_factors

ALIGN = 128
FAST_DTYPES = {"F16": 0, "BF16": 1, "F32": 2}
# One product of a fast term: slot, rows [start, start + length) of the canonical parameter, swap, positions of factors (bytes), rank, dtype,
# alpha / rank of the adapter, the largest value that the unscaled product can have, and whether it is multiplied, element by element, with
# the product of the next row, which then has scale and peak of both (its own are 0).
FAST = np.dtype([
    ("slot", "<i4"), ("start", "<i4"), ("length", "<i4"), ("swap", "<i4"), ("up", "<i8"), ("down", "<i8"), ("rank", "<i4"),
    ("code", "<i4"), ("scale", "<f8"), ("peak", "<f8"), ("joined", "<i4"),
])  # fmt: skip


@dataclass(frozen=True)
class DeltaImage:
    """`factors`: uint8, pinned on CUDA where the driver lets it. `fast`: rows of FAST. `slow`: slot index -> terms the kernel cannot do, with `fast` ones
    of the same parameter among them in file order. `spans`: factor name -> (begin, entry, columns permuted for this slot)."""

    file: DeltaFile
    factors: Tensor
    fast: np.ndarray
    slow: dict[int, list[Term]]
    every: dict[int, list[Term]]
    spans: dict[str, tuple[int, Entry, Slot | None]]

    @property
    def nbytes(self) -> int:
        return self.factors.numel()

    # Asked for in every refit.
    @cached_property
    def touched(self) -> np.ndarray:
        """Indices of the slots that it changes."""
        return np.fromiter(self.every, np.int64, len(self.every))

    @cached_property
    def changes(self) -> frozenset[int]:
        return frozenset(self.every)

    def without(self, slots: frozenset[int]) -> "DeltaImage":
        """The same adapter where it leaves these slots alone."""
        if not slots:
            return self
        keep = ~np.isin(self.fast["slot"], np.fromiter(slots, np.int64, len(slots)))
        every = {index: terms for index, terms in self.every.items() if index not in slots}
        return replace(
            self, fast=self.fast[keep], every=every, slow={index: terms for index, terms in self.slow.items() if index not in slots}
        )

    def rows_of(self, slot: Slot) -> slice:
        """Rows of a parameter, in canonical order, between the first and the last that it changes."""
        spans = [term.slice or (0, slot.rows) for term in self.every[slot.index]]
        return slice(min(start for start, _ in spans), max(start + length for start, length in spans))

    def factor(self, name: str, buffer: Tensor) -> Tensor:
        """A factor in its canonical shape out of `buffer` (the image itself or its copy on the device)."""
        begin, entry, slot = self.spans[name]
        raw = buffer[begin : begin + entry.end - entry.begin].view(TORCH_OF_FILE[entry.dtype])
        if slot is None:
            return raw.view(entry.shape)
        rank = entry.shape[0]
        if slot.rotation:
            return rotate(raw.view(rank, -1).float(), slot.rotation).to(raw.dtype).view(entry.shape)
        return raw.view(rank, *slot.shape[2:], slot.shape[1]).movedim(-1, 1).reshape(entry.shape)

    def factors_of(self, term: Term, buffer: Tensor) -> dict[str, Tensor]:
        """All factors of a term in f32, `dora` among them."""
        out = {role: self.factor(name, buffer).float() for role, name in term.factors.items()}
        if term.dora is not None:
            out["dora"] = self.factor(term.dora, buffer).float()
        return out


@dataclass(frozen=True)
class _Product:
    """A row of FAST before positions are known."""

    slot: Slot
    term: Term
    up: str
    down: str
    start: int
    length: int
    rank: int
    joined: bool = False


# Factors of a term's products, in the order of the rows.
_PAIRS = {"lowRank": (("up", "down"),), "hadamard": (("w1a", "w1b"), ("w2a", "w2b"))}


def _products(term: Term, slot: Slot, entries: dict[str, Entry], joins: bool) -> list[_Product] | None:
    """The term as products, when the kernel can do it."""
    pairs = _PAIRS.get(term.kind)
    if pairs is None or len(term.factors) != 2 * len(pairs) or term.dora or term.pad_to is not None or len(slot.shape) < 2:
        return None
    # Turned columns and a product of elements do not commute.
    if len(pairs) > 1 and (not joins or slot.rotation):
        return None
    start, length = term.slice or (0, slot.rows)
    out = []
    for number, (first, second) in enumerate(pairs):
        up, down = entries[term.factors[first]], entries[term.factors[second]]
        rank = down.shape[0] if down.shape else 0
        fits = (
            up.dtype == down.dtype and up.dtype in FAST_DTYPES and rank > 0 and len(up.shape) >= 2
            and up.shape[0] == length and math.prod(up.shape) == length * rank and math.prod(down.shape) == rank * slot.cols
            and start + length <= slot.rows and not (term.swap_halves and length % 2)
        )  # fmt: skip
        if not fits:
            return None
        out.append(_Product(slot, term, term.factors[first], term.factors[second], start, length, rank, number + 1 < len(pairs)))
    return out


def _plan(
    file: DeltaFile, layout: Layout, joins: bool
) -> tuple[dict[str, tuple[int, Entry, Slot | None]], list[_Product], dict[int, list[Term]], dict[int, list[Term]]]:
    every: dict[int, list[Term]] = {}
    rows: list[_Product] = []
    orders: dict[str, Slot | None] = {}
    slow_slots: set[int] = set()
    for term in file.terms:
        slot = layout.by_name.get(term.parameter)
        if slot is None:
            raise HostFailure(
                "HOST_PARAMETER_UNKNOWN",
                f"{term.parameter}: the engine has no such parameter; the adapter belongs to another structure",
                {"parameter": term.parameter},
            )
        every.setdefault(slot.index, []).append(term)
        fast = _products(term, slot, file.entries, joins)
        order = slot if slot.channels_last or slot.rotation else None
        if fast is None or any(orders.setdefault(product.down, order) != order for product in fast):
            slow_slots.add(slot.index)
        else:
            rows += fast
    spans, position = {}, 0
    rows.sort(key=lambda row: row.slot.index)
    # Factors of neighbouring matrices lie one behind the other, so that a run of equal shapes is one strided batch.
    for name in dict.fromkeys([*(row.up for row in rows), *(row.down for row in rows), *file.entries]):
        entry = file.entries[name]
        expect(entry.dtype in FLOAT_DTYPES, "HOST_DELTA_INVALID", f"{name}: {entry.dtype} is no factor dtype")
        spans[name] = (position, entry, None)
        position += (entry.end - entry.begin + ALIGN - 1) // ALIGN * ALIGN
    for row in rows:
        begin, entry, _ = spans[row.down]
        if (row.slot.channels_last or row.slot.rotation) and row.slot.index not in slow_slots:
            spans[row.down] = (begin, entry, row.slot)
    return spans, rows, every, {index: every[index] for index in slow_slots}


def read_image(file: DeltaFile, layout: Layout, *, pinned: bool, joins: bool = True) -> DeltaImage:
    """Reads all factors once and prepares them for this layout. `joins`: the merge can multiply two products (LoHa), else the evaluator does.
    Raises HOST_DELTA_INVALID, HOST_PARAMETER_UNKNOWN, HOST_NON_FINITE."""
    spans, rows, every, slow = _plan(file, layout, joins)
    total = max((begin + entry.end - entry.begin for begin, entry, _ in spans.values()), default=0)
    factors, peaks = read_factors(file, (Span(name, begin, entry) for name, (begin, entry, _) in spans.items()), total + ALIGN)
    for begin, entry, slot in spans.values():
        if slot is not None:
            _permute(factors[begin : begin + entry.end - entry.begin].view(TORCH_OF_FILE[entry.dtype]), entry.shape[0], slot)
    if pinned:
        pin(factors)
    fast = np.array([fields for row, fields in zip(rows, _fields(rows, spans, peaks)) if row.slot.index not in slow], dtype=FAST)
    return DeltaImage(file, factors, fast, slow, every, spans)


def _fields(rows: list[_Product], spans: dict[str, tuple[int, Entry, Slot | None]], peaks: dict[str, float]) -> list[tuple]:
    """Rows of FAST. A joined product's bound goes to the row that it is multiplied with."""
    out, before = [], 1.0
    for row in rows:
        bound = before * row.rank * peaks[row.up] * peaks[row.down]
        before = bound if row.joined else 1.0
        scale = 0.0 if row.joined else row.term.scale
        peak_of = 0.0 if row.joined else bound * max(1, row.slot.rotation) ** 0.5
        code = FAST_DTYPES[spans[row.up][1].dtype]
        place = (row.slot.index, row.start, row.length, row.term.swap_halves, spans[row.up][0], spans[row.down][0])
        out.append((*place, row.rank, code, scale, peak_of, row.joined))
    return out


def _permute(down: Tensor, rank: int, slot: Slot) -> None:
    """[r, i, k..] to [r, k.., i], or with groups of columns turned; in place."""
    if slot.rotation:
        down.copy_(rotate(down.view(rank, -1).float(), slot.rotation).reshape(-1))
        return
    down.copy_(down.view(rank, *slot.shape[1:]).movedim(1, -1).reshape(-1).clone())


class ImageCache:
    """Images of recent delta files by path and stamp, oldest out first once `limit` bytes are held. [any thread]"""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._images: dict[tuple, DeltaImage] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple) -> DeltaImage | None:
        with self._lock:
            image = self._images.pop(key, None)
            if image is not None:
                self._images[key] = image
            return image

    def put(self, key: tuple, image: DeltaImage) -> None:
        with self._lock:
            self._images[key] = image
            while len(self._images) > 1 and sum(i.nbytes for i in self._images.values()) > self._limit:
                self._images.pop(next(iter(self._images)))

    @property
    def nbytes(self) -> int:
        with self._lock:
            return sum(image.nbytes for image in self._images.values())
