"""Checkpoint file to device, without a full copy in host memory: reader threads fill a small ring of (pinned) buffers.

The device converts dtype and layout, so the host only moves bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ..failure import HostFailure, expect
from ..files.checkpoint import CheckpointReader, Piece
from ..files.dtypes import TORCH_OF_FILE
from ..files.storage import Coded, blocks, scaled
from .layout import Slot

# Big enough for full bandwidth from the page cache, small enough that the ring stays under 300 MB of RAM.
CHUNK_BYTES = 32 << 20
READERS = 8
GAP_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """A contiguous range of one file and the parameters (or pieces of them) inside it, each at [begin, end) of the range."""

    file: int
    begin: int
    end: int
    members: tuple[tuple[Slot, Piece, int, int], ...]


def chunks_of(reader: CheckpointReader, slots: Iterable[Slot]) -> list[Chunk]:
    """Parameters grouped into ranges of about CHUNK_BYTES, in file order. A larger parameter is a chunk of its own."""
    spans = sorted(((*span, slot) for slot in slots for span in reader.spans(slot.name)), key=lambda span: span[:3])
    out: list[Chunk] = []
    group: list[tuple[int, int, int, Piece, Slot]] = []

    def close() -> None:
        if group:
            begin = group[0][1]
            members = tuple((slot, piece, b - begin, e - begin) for _, b, e, piece, slot in group)
            out.append(Chunk(group[0][0], begin, group[-1][2], members))
            group.clear()

    for span in spans:
        if group and (span[0] != group[0][0] or span[2] - group[0][1] > CHUNK_BYTES or span[1] - group[-1][2] > GAP_BYTES):
            close()
        group.append(span)
    close()
    return out


class Ring:
    """Staging buffers shared by loads. Pinned on CUDA so that copies overlap with reads."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._free: deque[Tensor] = deque()
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> Tensor:
        with self._lock:
            for buffer in self._free:
                if buffer.numel() >= nbytes:
                    self._free.remove(buffer)
                    return buffer
        return torch.empty(max(nbytes, CHUNK_BYTES), dtype=torch.uint8, pin_memory=self.device.type == "cuda")

    def give(self, buffer: Tensor) -> None:
        with self._lock:
            if buffer.numel() == CHUNK_BYTES and len(self._free) < READERS + 2:
                self._free.append(buffer)


def stream(
    reader: CheckpointReader, slots: Iterable[Slot], ring: Ring, put: Callable[[Slot, Tensor], None],
    *, coded: Callable[[Slot, Coded], None] | None = None, cancelled: Callable[[], bool] = lambda: False, progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:  # fmt: skip
    """Calls `put(slot, value)` for every slot with the stored value on the device, canonical shape, file dtype (quantised storage: f32). With `coded` that is called instead
    for a matrix whose codes and scales are there.

    Returns bytes read. Raises HOST_FILE_INVALID, HOST_CANCELLED. The value is valid only during the call (stream order).
    """
    plan = chunks_of(reader, slots)
    total, done = sum(c.end - c.begin for c in plan), 0
    whole = _Assembly(reader, ring.device)
    with ThreadPoolExecutor(READERS, thread_name_prefix="refit-read") as pool:
        for chunk, buffer, pending in _ahead(pool, reader, plan, ring):
            if cancelled():
                raise HostFailure("HOST_CANCELLED", "the load was cancelled")
            pending.result()
            size = chunk.end - chunk.begin
            on_device = buffer[:size].to(ring.device, non_blocking=True) if ring.device.type == "cuda" else buffer[:size]
            for slot, piece, begin, end in chunk.members:
                value = whole.add(slot, piece, on_device[begin:end])
                if isinstance(value, Coded) and coded is not None and len(slot.shape) == 2:
                    coded(slot, value)
                elif value is not None:
                    put(slot, value.value().view(slot.shape) if isinstance(value, Coded) else value)
            if ring.device.type == "cuda":
                # The buffer may be refilled only after its copy has left.
                event = torch.cuda.Event()
                event.record()
                pool.submit(_give_back, ring, buffer, event)
            else:
                ring.give(buffer)
            done += size
            progress(done, total)
    return done


def _give_back(ring: Ring, buffer: Tensor, event: torch.cuda.Event) -> None:
    event.synchronize()
    ring.give(buffer)


def _ahead(
    pool: ThreadPoolExecutor, reader: CheckpointReader, plan: list[Chunk], ring: Ring
) -> Iterator[tuple[Chunk, Tensor, Future[None]]]:
    """Keeps READERS reads in flight, yields them in file order."""
    flying: deque[tuple[Chunk, Tensor, Future[None]]] = deque()
    todo = iter(plan)
    try:
        while True:
            while len(flying) < READERS and (chunk := next(todo, None)) is not None:
                buffer = ring.take(chunk.end - chunk.begin)
                view = memoryview(buffer.numpy())[: chunk.end - chunk.begin]
                flying.append((chunk, buffer, pool.submit(reader.read_into, chunk.file, chunk.begin, view)))
            if not flying:
                return
            yield flying.popleft()
    finally:
        for _, _, pending in flying:
            pending.cancel()


class _Assembly:
    """Stored bytes to values: dtype, scales, and parameters that the file keeps in pieces."""

    def __init__(self, reader: CheckpointReader, device: torch.device) -> None:
        self._reader, self._device = reader, device
        self._waiting: dict[str, dict[int, Tensor | Coded]] = {}

    def add(self, slot: Slot, piece: Piece, raw: Tensor) -> Tensor | Coded | None:
        """The parameter's value once its last piece is here: plain ones in canonical shape and file dtype, scaled ones as a matrix of codes, other storage as f32."""
        parameter = self._reader.source.parameters[slot.name]
        value = self._piece(slot.name, piece, raw, parameter.shape_of(piece))
        if len(parameter.pieces) == 1:
            return value
        have = self._waiting.setdefault(slot.name, {})
        # The buffer behind `raw` is filled again before the other pieces come.
        have[piece.start] = value.of_rows(Tensor.clone) if isinstance(value, Coded) else value.clone()
        if len(have) < len(parameter.pieces):
            return None
        return _joined([part for _, part in sorted(self._waiting.pop(slot.name).items())], parameter.shape)

    def _piece(self, name: str, piece: Piece, raw: Tensor, shape: tuple[int, ...]) -> Tensor | Coded:
        dtype = TORCH_OF_FILE[piece.dtype]
        if raw.storage_offset() % dtype.itemsize or raw.data_ptr() % dtype.itemsize:
            raw = raw.clone()  # old files may hold unaligned data
        storage = piece.storage
        if storage is None:
            return _ordered(raw.view(dtype).view(shape), piece)
        if storage.format == "scaled":
            value = scaled(name, raw.view(dtype).view(shape), self._beside(piece, storage.scale), storage.rotation)
        else:
            stored = raw.view(self._reader.entry(piece.file, piece.key).shape)
            scale2 = None if storage.scale2 is None else self._beside(piece, storage.scale2)
            # A scale of blocks is one byte, whatever its container is called.
            value = blocks(name, storage, stored, self._beside(piece, storage.scale, torch.uint8), scale2, shape)
        if storage.column_scale is not None:
            plain = value.value() if isinstance(value, Coded) else value
            value = plain * self._beside(piece, storage.column_scale).float().view(1, -1)
        if isinstance(value, Coded):
            return value.of_rows(lambda part: _ordered(part, piece))
        return _ordered(value.view(shape), piece)

    def _beside(self, piece: Piece, key: str, dtype: torch.dtype | None = None) -> Tensor:
        """A small tensor of the piece's file, on the device: numbers, or bytes where `dtype` says so. Raises HOST_FILE_INVALID for a number that is none."""
        entry = self._reader.entry(piece.file, key)
        raw = (
            torch.frombuffer(self._reader.read(piece.file, key), dtype=torch.uint8)
            if entry.end > entry.begin
            else torch.empty(0, dtype=torch.uint8)
        )
        if dtype is not None:
            return raw.to(self._device).view(dtype)
        numbers = raw.view(TORCH_OF_FILE[entry.dtype])
        odd = numbers[~torch.isfinite(numbers.float())]
        expect(
            odd.numel() == 0,
            "HOST_FILE_INVALID",
            f"expected the scales of {piece.key} to be finite numbers, found {odd[:1].tolist()} in {key}: the weight cannot be read. "
            "Convert the checkpoint again.",
            key=key,
        )
        return numbers.to(self._device).view(entry.shape)


def _ordered(value: Tensor, piece: Piece) -> Tensor:
    """Rows in canonical order."""
    if not piece.swap_halves:
        return value
    # Bytes of one-byte floats are moved as bytes: torch has no cat for fp8.
    half, plain = value.shape[0] // 2, value.view(torch.uint8) if value.dtype.itemsize == 1 else value
    return torch.cat([plain[half:], plain[:half]]).view(value.dtype)


def _joined(parts: list[Tensor | Coded], shape: tuple[int, ...]) -> Tensor | Coded:
    """Pieces in row order as one. Codes stay codes when all have the same kind."""
    coded = [part for part in parts if isinstance(part, Coded)]
    if len(coded) == len(parts) and len({(part.kind, part.rotation, part.parts["codes"].dtype) for part in coded}) == 1:
        return Coded.joined(coded)
    values = [part.value() if isinstance(part, Coded) else part for part in parts]
    if len({value.dtype for value in values}) > 1:
        values = [value.float() for value in values]
    plain = torch.cat([value.view(torch.uint8) if value.dtype.itemsize == 1 else value for value in values])
    return plain.view(values[0].dtype).view(shape)
