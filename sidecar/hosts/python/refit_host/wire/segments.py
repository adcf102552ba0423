"""Tensors that a client left in a shared segment: a plain file in the owner-only folder that hello named.

Read with positioned reads, never mapped: a client may cut the file at any moment. A segment is opened for one step and closed after it, because an
open file would keep the memory of a client that is gone (up to 512 MiB each).
"""

from __future__ import annotations

import logging
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Sequence

from ..checked.tensor_frame import PlacedTensor, padded
from ..failure import HostFailure, expect
from .frames import MAX_PAYLOAD_BYTES

log = logging.getLogger("refit_host")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_SEGMENTS = 8
# Copies of this size keep several readers busy on one large tensor.
PIECE_BYTES = 8 << 20
READERS = min(4, os.cpu_count() or 1)
# Without them a file could not be opened inside the folder, whatever its path leads to meanwhile.
SUPPORTED = hasattr(os, "preadv") and os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")


class SegmentFolder:
    def __init__(self, descriptor: int) -> None:
        self._folder = descriptor
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="refit-segment")

    @staticmethod
    def open(path: str) -> "SegmentFolder | None":
        """None where segments cannot be read safely: then tensors come through the pipe."""
        if not SUPPORTED:
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            log.warning("the folder of segments cannot be opened (%s); tensors come through the pipe", error.strerror)
            return None
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            os.close(descriptor)
            log.warning("the folder of segments is not this user's alone; tensors come through the pipe")
            return None
        return SegmentFolder(descriptor)

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self._folder)

    def read(self, names: Sequence[object], tensors: Sequence[PlacedTensor], take: Callable[[int], memoryview]) -> list[memoryview]:
        """The tensors' bytes, each on a multiple of 64 of the memory that `take` gives for so many bytes. Nothing is taken before every range is known to
        lie in its file. Raises HOST_INVALID_PARAMS, HOST_SEGMENT_REFUSED, HOST_SEGMENT_SHORT."""
        expect(len(names) <= MAX_SEGMENTS and all(isinstance(name, str) and NAME.fullmatch(name) for name in names), "HOST_INVALID_PARAMS",
               f"segments: expected at most {MAX_SEGMENTS} plain names")  # fmt: skip
        expect(
            all(tensor.segment < len(names) for tensor in tensors),
            "HOST_SEGMENT_REFUSED",
            f"expected tensors in the {len(names)} segments that the step names",
        )
        expect(
            sum(tensor.nbytes for tensor in tensors) <= MAX_PAYLOAD_BYTES,
            "HOST_SEGMENT_REFUSED",
            f"expected at most {MAX_PAYLOAD_BYTES} bytes in segments",
        )
        files: dict[int, int] = {}
        try:
            for index in {tensor.segment for tensor in tensors}:
                files[index] = self._open(str(names[index]))
            for tensor in tensors:
                expect(tensor.offset + tensor.nbytes <= os.fstat(files[tensor.segment]).st_size, "HOST_SEGMENT_SHORT", _short(tensor))
            return self._fill(files, tensors, take)
        finally:
            for file in files.values():
                os.close(file)

    def _open(self, name: str) -> int:
        try:
            # A pipe or device that somebody put there must not stop the host.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError as error:
            raise HostFailure(
                "HOST_SEGMENT_REFUSED", f"expected a segment of this sidecar that can be opened ({error.strerror})"
            ) from error
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            return file
        os.close(file)
        raise HostFailure("HOST_SEGMENT_REFUSED", "expected a segment to be a plain file of this user")

    def _fill(self, files: dict[int, int], tensors: Sequence[PlacedTensor], take: Callable[[int], memoryview]) -> list[memoryview]:
        starts, end = [], 0
        for tensor in tensors:
            starts.append(end)
            end += padded(tensor.nbytes)
        memory = take(end)
        views = [memory[start : start + tensor.nbytes] for start, tensor in zip(starts, tensors)]
        pieces = [
            self._pool.submit(_read, files[tensor.segment], view[at : at + PIECE_BYTES], tensor.offset + at, tensor)
            for tensor, view in zip(tensors, views) for at in range(0, tensor.nbytes, PIECE_BYTES)
        ]  # fmt: skip
        # All of them, whatever the first one says: the files stay open as long as somebody reads.
        errors = [error for piece in pieces if (error := piece.exception()) is not None]
        if errors:
            raise errors[0]
        return views


def _read(file: int, into: memoryview, offset: int, tensor: PlacedTensor) -> None:
    done = 0
    while done < into.nbytes:
        try:
            got = os.preadv(file, [into[done:]], offset + done)
        except OSError as error:
            raise HostFailure("HOST_SEGMENT_REFUSED", f"{tensor.name}: its segment could not be read ({error.strerror})") from error
        expect(got > 0, "HOST_SEGMENT_SHORT", _short(tensor))
        done += got


def _short(tensor: PlacedTensor) -> str:
    return f"{tensor.name}: expected {tensor.nbytes} bytes at {tensor.offset} of its segment, the file ends before"
