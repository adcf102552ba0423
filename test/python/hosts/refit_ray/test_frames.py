"""The gateway's own look at frames and pieces, against the host's codec."""

from __future__ import annotations

import asyncio
import os

import pytest
from refit_host.wire.frames import WireTensor, encode_frame
from refit_ray.channels import PREFIX, Writer, pipe_reader, read_piece
from refit_ray.figures import Figures
from refit_ray.frames import message_of, read_frame, with_message


def frame(message: dict[str, object]) -> bytes:
    tensor = WireTensor("x", "u8", (3,), memoryview(b"abc"))
    return b"".join(bytes(part) for part in encode_frame(message, "params", [tensor]))


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


def test_changes_a_frames_message_and_leaves_its_tensors():
    first = frame({"jsonrpc": "2.0", "id": 5, "method": "load", "params": {"path": "a"}})
    message = message_of(first)
    assert (message["id"], message["method"], message["params"]["path"]) == (5, "load", "a")
    longer = with_message(first, {**message, "params": {**message["params"], "path": "b" * 1000}})
    assert message_of(longer)["params"]["path"] == "b" * 1000
    assert longer[-3:] == b"abc" and len(longer) % 64 == 3

    async def both() -> list[bytes | None]:
        reader = reader_of(first + longer)
        return [await read_frame(reader) for _ in range(3)]

    assert asyncio.run(both()) == [first, longer, None]


def test_pieces_go_through_a_pipe_in_their_order():
    async def through() -> list[tuple[int, bytes] | None]:
        read, write = os.pipe()
        writer = Writer(write)
        for channel in range(3):
            writer.write(channel, bytes([channel]) * 100_000)
        reader = await pipe_reader(read)
        return [await read_piece(reader) for _ in range(3)]

    assert asyncio.run(through()) == [(channel, bytes([channel]) * 100_000) for channel in range(3)]


def test_refuses_a_length_that_nothing_honest_has():
    async def read() -> None:
        await read_piece(reader_of(PREFIX.pack(1, 1 << 62)))

    with pytest.raises(ValueError, match="at most"):
        asyncio.run(read())


def test_figures_are_those_of_the_newest_steps():
    figures = Figures()
    assert figures.row() == {"steps": 0, "p50Ms": None, "p99Ms": None}
    for value in range(6000):
        figures.note(float(value))
    assert figures.row() == {"steps": 6000, "p50Ms": 3500.0, "p99Ms": 5950.0}
