"""Which place of which file a tensor was read from. Two tensors of one place are equal without a look at their values, so whole adapters need not be hashed before a new stack.

A loader's tensors are noted when they are made. A note is believed only while the file is the one that was read and a piece of the tensor, at a place that nobody can
foresee, still equals the file's bytes; the whole of it is compared in the background, and a tensor that somebody changed in place loses its note for good.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import queue
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from ...files import Stamp, stamp

# Bytes of each tensor that are compared at once: a cache line or two.
SAMPLE_BYTES = 128
# Where all tensors of a file are asked at once.
PIECES_BYTES = 64
# Of a whole comparison at a time: it stays in a core's cache.
PIECE_BYTES = 256 << 10
# A header of an adapter is a few hundred kilobytes.
MOST_HEADER_BYTES = 64 << 20
KEPT_FILES = 16
# The whole comparison begins so long after a stack was read: until then the run is prepared, and both need the interpreter.
REST_S = 0.3
# And lets other threads have it after each tensor: one that wants it back otherwise waits for 5 ms.
YIELD_S = 0.0002


@dataclass(frozen=True, slots=True)
class Place:
    """`begin` and `end`: of the tensor's bytes in the file. `address`: where the loader put them. `name`: only tensors of the same place of the same file have it."""

    file: "MappedFile"
    name: str
    begin: int
    end: int
    address: int

    @property
    def key(self) -> str:
        """Of the tensor, in the file."""
        return self.name.rpartition("\0")[2]


class MappedFile:
    """A safetensors file as it was at one moment. Its bytes are never copied."""

    def __init__(self, path: str, seen: Stamp) -> None:
        """Raises OSError or ValueError for what is no whole safetensors file."""
        self.path, self.stamp = path, seen
        with open(path, "rb") as file:
            self.data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        length = int.from_bytes(self.data[:8], "little")
        if length > min(MOST_HEADER_BYTES, len(self.data) - 8):
            raise ValueError("no safetensors header")
        self.start = 8 + length
        self.entries: dict[str, tuple[int, int]] = {
            key: (self.start + entry["data_offsets"][0], self.start + entry["data_offsets"][1])
            for key, entry in json.loads(bytes(self.data[8 : self.start])).items()
            if key != "__metadata__"
        }

    @property
    def current(self) -> bool:
        return stamp(self.path) == self.stamp

    def name(self, key: str) -> str:
        return f"{self.path}\0{self.stamp.size}.{self.stamp.mtime_ns}.{self.stamp.inode}\0{key}"


class Origins:
    """Safe from several threads. `on_changed` is called, from a thread of its own, when a tensor turned out not to be what its file says."""

    def __init__(self, on_changed: Callable[[], None] = lambda: None) -> None:
        self._places: dict[int, tuple[weakref.ref[torch.Tensor], Place]] = {}
        self._files: dict[str, MappedFile] = {}
        self._checked: dict[int, Place | None] = {}
        self._current: dict[str, bool] = {}
        self._on_changed = on_changed
        self._queue: queue.SimpleQueue[list[tuple[weakref.ref[torch.Tensor], Place]]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    def note(self, path: str, before: Stamp | None, tensors: Mapping[str, Any]) -> None:
        """What a loader made of a file. `before`: the file's stamp before it was read; one that changed meanwhile gives no notes."""
        if before is None or stamp(path) != before:
            return
        try:
            file = self._file(path, before)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return
        for key, tensor in tensors.items():
            span = file.entries.get(key)
            if (
                isinstance(tensor, torch.Tensor)
                and span is not None
                and tensor.device.type == "cpu"
                and span[1] - span[0] == tensor.numel() * tensor.element_size()
            ):
                number = id(tensor)
                self._places[number] = (
                    weakref.ref(tensor, lambda _, number=number: self._places.pop(number, None)),
                    Place(file, file.name(key), *span, tensor.data_ptr()),
                )

    def _file(self, path: str, seen: Stamp) -> MappedFile:
        known = self._files.pop(path, None)
        if known is None or known.stamp != seen:
            known = MappedFile(path, seen)
        self._files[path] = known
        while len(self._files) > KEPT_FILES:
            self._files.pop(next(iter(self._files)))
        return known

    def begin(self) -> None:
        """Before a stack is read: every note is tested once for it."""
        self._checked, self._current = {}, {}

    def of(self, tensor: torch.Tensor) -> str | None:
        """A name that only tensors of the same place of the same file have; None where nothing is known or the test fails."""
        place = self.place(tensor)
        return None if place is None else place.name

    def place(self, tensor: torch.Tensor) -> Place | None:
        """Where the tensor was read from; None where nothing is known or the test fails."""
        number = id(tensor)
        try:
            return self._checked[number]
        except KeyError:
            found = self._checked[number] = self._tested(tensor, number)
            return found

    def noted(self, tensor: object) -> MappedFile | None:
        """The file that a loader read the tensor from, untested."""
        known = self._places.get(id(tensor))
        return known[1].file if known is not None and known[0]() is tensor else None

    def read_from(self, tensors: Iterable[object]) -> MappedFile | None:
        """The file that these are the tensors of, all of them and no others, as it is now; None where that is not known."""
        self.begin()
        places = [place for one in tensors if isinstance(one, torch.Tensor) and (place := self.place(one)) is not None]
        file = places[0].file if places else None
        return file if file is not None and {place.name for place in places} == set(map(file.name, file.entries)) else None

    def _tested(self, tensor: torch.Tensor, number: int) -> Place | None:
        known = self._places.get(number)
        if known is None or known[0]() is not tensor:
            return None
        place = known[1]
        path = place.file.path
        if path not in self._current:
            self._current[path] = place.file.current
        if not self._current[path] or not tensor.is_contiguous():
            return None
        if not _sampled(tensor, place):
            self._places.pop(number, None)
            return None
        return place

    def verify(self) -> None:
        """Compares all that was believed since `begin`, whole, in the background."""
        self.compare([self._places[number] for number, place in self._checked.items() if place is not None and number in self._places])

    def compare(self, rows: Iterable[tuple[weakref.ref[torch.Tensor], Place]]) -> None:
        """Compares tensors with their places, whole, in the background, once the run that they are for has begun."""
        rows = list(rows)
        if not rows:
            return
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="refit-origins", daemon=True)
            self._worker.start()
        self._queue.put(rows)

    def _work(self) -> None:
        while True:
            changed = False
            rows = self._queue.get()
            time.sleep(REST_S)
            for reference, place in rows:
                time.sleep(YIELD_S)
                tensor = reference()
                if tensor is not None and not _equal(tensor, place) and place.file.current:
                    self._places.pop(id(tensor), None)
                    changed = True
            if changed:
                self._on_changed()


class Pieces:
    """A piece of each of a file's tensors at once, where the loader put them. They have to be there still (`data_ptr`)."""

    def __init__(self, file: MappedFile, places: Sequence[Place]) -> None:
        self._file = file
        self._small = [place for place in places if place.end - place.begin < PIECES_BYTES]
        rest = [(place.begin, place.address, place.end - place.begin) for place in places if place.end - place.begin >= PIECES_BYTES]
        self._begins, self._addresses, self._sizes = np.array(rest, np.int64).reshape(-1, 3).T
        self._random = np.random.default_rng()

    def same(self) -> bool:
        """Whether a piece of each, at a place that nobody can foresee, equals the file's bytes."""
        if any(
            ctypes.string_at(place.address, place.end - place.begin) != self._file.data[place.begin : place.end] for place in self._small
        ):
            return False
        if not len(self._sizes):
            return True
        offsets = (self._random.random(len(self._sizes)) * (self._sizes - PIECES_BYTES + 1)).astype(np.int64)
        first = int(self._addresses.min())
        memory = (ctypes.c_uint8 * (int((self._addresses + self._sizes).max()) - first)).from_address(first)
        own = sliding_window_view(np.ctypeslib.as_array(memory), PIECES_BYTES)[self._addresses - first + offsets]
        kept = sliding_window_view(np.frombuffer(self._file.data, np.uint8), PIECES_BYTES)[self._begins + offsets]
        return np.array_equal(own, kept)


def _sampled(tensor: torch.Tensor, place: Place) -> bool:
    """Whether a piece of the tensor, at a place that nobody can foresee, equals the file's bytes. 1 us: every tensor of a stack is asked."""
    if tensor.data_ptr() != place.address:
        return False
    offset = int(random.random() * max(1, place.end - place.begin - SAMPLE_BYTES + 1))
    begin = place.begin + offset
    kept = place.file.data[begin : min(place.end, begin + SAMPLE_BYTES)]
    return ctypes.string_at(place.address + offset, len(kept)) == kept


def _equal(tensor: torch.Tensor, place: Place) -> bool:
    """Whether all bytes of the tensor are the file's."""
    own = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    # Piece by piece, by numpy, which lets other threads run meanwhile: two memoryviews are compared byte by byte with the interpreter's lock held, and a
    # sampler beside it would wait for megabytes.
    whole = np.frombuffer(place.file.data[place.begin : place.end], np.uint8)
    if own.size != whole.size:
        return False
    return all(np.array_equal(own[at : at + PIECE_BYTES], whole[at : at + PIECE_BYTES]) for at in range(0, own.size, PIECE_BYTES))


def follow_loads(
    module: object, name: str, origins: Origins, concerns: Callable[[str], bool], begun: Callable[[str], None] = lambda path: None
) -> None:
    """Notes what a UI's own loading function makes of the files that matter, and says so as soon as one begins. The function itself is not changed."""
    load = getattr(module, name)

    def load_and_note(path: object, *args: object, **kwargs: object) -> object:
        text = str(path)
        if not text.lower().endswith((".safetensors", ".sft")) or not concerns(text):
            return load(path, *args, **kwargs)
        begun(text)
        before = stamp(text)
        found = load(path, *args, **kwargs)
        tensors = found[0] if isinstance(found, tuple) else found
        if isinstance(tensors, dict):
            origins.note(text, before, tensors)
        return found

    setattr(module, name, load_and_note)
