"""SHA-256 of many weights at once: hashing is one core's work at about 1 GB/s, so several threads share it, and weights leave the device through pinned memory.
An engine that is verified after a host's death would otherwise wait for it (SDXL: 5 GB, twice)."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

from .host_memory import in_huge_pages, pin

THREADS = min(16, os.cpu_count() or 1)
# Values that wait to be hashed, per thread: bounds the memory that they hold.
WAITING = 3
# Of one pinned block, and how many there are: a device's values up to this size go through them.
BLOCK_BYTES, BLOCKS = 32 << 20, 12


def on_host(value: Tensor) -> Tensor:
    """A contiguous copy. Never the value's own memory: what numpy has seen can no longer be given back (`offload`)."""
    return value.to("cpu", copy=True).contiguous()


def digest(value: Tensor) -> str:
    """SHA-256 of a value's bytes in canonical layout."""
    return _sha256(on_host(value))


def _sha256(value: Tensor) -> str:
    return hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy()).hexdigest()


class Digests:
    """`add` copies a value to the host and hashes it in another thread; `by_name` waits for all. A context: no thread outlives it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="refit-digest")
        self._room = threading.BoundedSemaphore(THREADS * WAITING)
        self._added: dict[str, Future[str]] = {}
        # Pinned blocks that hold no value; they are made when the first values need them.
        self._free: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
        self._made = 0

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)

    def add(self, name: str, value: Tensor) -> None:
        """The copy is made before this returns, on the current stream: the value may be overwritten then."""
        self._room.acquire()
        try:
            if value.device.type == "cuda" and 0 < value.nbytes <= BLOCK_BYTES:
                self._added[name] = self._pool.submit(self._hash_block, *self._through_block(value))
            else:
                self._added[name] = self._pool.submit(_sha256, on_host(value))
        except BaseException:
            self._room.release()
            raise
        self._added[name].add_done_callback(lambda _: self._room.release())

    def _through_block(self, value: Tensor) -> tuple[Tensor, int]:
        if self._made < BLOCKS and self._free.empty():
            self._made += 1
            made = torch.empty(BLOCK_BYTES, dtype=torch.uint8)
            in_huge_pages(made)
            pin(made)
            self._free.put(made)
        block = self._free.get()
        # Waits for the copy alone.
        block[: value.nbytes].copy_(value.contiguous().reshape(-1).view(torch.uint8))
        return block, value.nbytes

    def _hash_block(self, block: Tensor, nbytes: int) -> str:
        try:
            return _sha256(block[:nbytes])
        finally:
            self._free.put(block)

    def by_name(self) -> dict[str, str]:
        return {name: added.result() for name, added in self._added.items()}
