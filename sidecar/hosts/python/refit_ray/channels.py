"""Many streams over one pipe: each piece has the number of its channel (u32) and its length (u64) in front, little-endian (sidecar/src/host/channels.ts)."""

from __future__ import annotations

import asyncio
import os
import queue
import struct
import threading

PREFIX = struct.Struct("<IQ")
# A frame's own limit (refit_host/wire/frames.py) and its header.
MAX_PIECE_BYTES = (8 << 30) + (65 << 20)


class Writer:
    """Writes pieces in the order in which they are given, from any thread; never blocks who gives them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pieces: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="refit-writer", daemon=True)
        self._thread.start()

    def write(self, channel: int, piece: bytes) -> None:
        self._pieces.put((channel, piece))

    def finish(self, seconds: float) -> None:
        """Waits until what was given is written, for so long at most. Nothing may be given afterwards."""
        self._pieces.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        with os.fdopen(self._descriptor, "wb", buffering=1 << 20) as out:
            while True:
                given = self._pieces.get()
                if given is None:
                    return
                channel, piece = given
                try:
                    out.write(PREFIX.pack(channel, len(piece)))
                    out.write(piece)
                    if self._pieces.empty():
                        out.flush()
                except OSError:
                    # The sidecar is gone, and our stdin with it.
                    return


async def read_piece(reader: asyncio.StreamReader) -> tuple[int, bytes] | None:
    """The next piece; None where the pipe ends. Raises ValueError for a length that nothing honest has."""
    try:
        channel, size = PREFIX.unpack(await reader.readexactly(PREFIX.size))
        if size > MAX_PIECE_BYTES:
            raise ValueError(f"expected a piece of at most {MAX_PIECE_BYTES} bytes, got {size}")
        return channel, await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None


async def pipe_reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0))
    return reader
