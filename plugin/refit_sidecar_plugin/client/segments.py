"""The client's end of a session's two shared segments: files that the sidecar made, copied with positioned reads and writes.

The client owns every range of both: it puts request tensors where it likes, and names the range where the sidecar may put the reply.
A range is free again only when its call is answered, cancelled or not: until then the sidecar may still use it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Any

from ..messages import Segment
from .errors import SidecarError
from .frames import Tensor, TensorLike, buffer_of, lay_out, pad

_NONCE_BYTES = 32


class _File:
    """Positioned reads and writes of one file. The lock keeps ``close`` out of a copy: a number that the system gave to another file meanwhile
    would be written into. Callers of one session take turns anyway, on the socket."""

    def __init__(self, path: str, size: int) -> None:
        self.size = size
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))
        self._lock = threading.Lock()
        self._open = True

    def read_into(self, target: memoryview, offset: int) -> None:
        with self._lock:
            self._check()
            done = 0
            while done < target.nbytes:
                got = self._read_some(target[done:], offset + done)
                if got == 0:
                    raise SidecarError("CLIENT_PROTOCOL", "The reply segment is shorter than the tensor in it.")
                done += got

    def write(self, data: memoryview, offset: int) -> None:
        with self._lock:
            self._check()
            done = 0
            while done < data.nbytes:
                done += self._write_some(data[done:], offset + done)

    def close(self) -> None:
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._fd)

    def _check(self) -> None:
        if not self._open:
            raise OSError(errno.EBADF, "the session has ended")

    # Windows has no positioned calls; the lock makes seek and copy one step there.

    def _read_some(self, target: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._fd, [target], offset)
        os.lseek(self._fd, offset, os.SEEK_SET)
        chunk = os.read(self._fd, target.nbytes)
        target[: len(chunk)] = chunk
        return len(chunk)

    def _write_some(self, data: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._fd, data, offset)
        os.lseek(self._fd, offset, os.SEEK_SET)
        return os.write(self._fd, data)


class _Ranges:
    """First-fit allocation in one segment. Thread-safe. Few ranges live at a time, so a list is enough."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def take(self, count: int) -> int | None:
        """Offset of ``count`` free bytes on a multiple of 64, or None."""
        with self._lock:
            start = 0
            for index, (begin, end) in enumerate(self._taken):
                if begin - start >= count:
                    self._taken.insert(index, (start, start + pad(count)))
                    return start
                start = end
            if self._size - start < pad(count):
                return None
            self._taken.append((start, start + pad(count)))
            return start

    def give(self, offset: int) -> None:
        with self._lock:
            self._taken = [taken for taken in self._taken if taken[0] != offset]


class Loan:
    """Ranges that one call uses; given back once, when it is answered."""

    def __init__(self, *offsets: tuple[_Ranges, int | None]) -> None:
        self._offsets = list(offsets)

    def give_back(self) -> None:
        offsets, self._offsets = self._offsets, []
        for ranges, offset in offsets:
            if offset is not None:
                ranges.give(offset)


class DeviceSegment:
    """The ranges of one device segment. Whoever opened it holds its memory."""

    def __init__(self, index: int, size: int) -> None:
        self.index, self.size = index, size
        self._ranges = _Ranges(size)
        # Its start tells both sides that it is the same memory.
        self._ranges.take(_NONCE_BYTES)

    @staticmethod
    def wanted(sizes: Sequence[int], reply_bytes: int) -> int:
        """Bytes of a segment that has room for so much at a time."""
        return pad(_NONCE_BYTES) + sum(map(pad, sizes)) + pad(reply_bytes)

    def lend(self, sizes: Sequence[int], reply_bytes: int) -> tuple[list[int], dict[str, int], Loan] | None:
        """Offsets for tensors, the reply range and the loan; None while earlier calls, cancelled ones too, still use the room."""
        at = self._ranges.take(sum(map(pad, sizes)))
        reply = None if at is None else self._ranges.take(reply_bytes)
        loan = Loan((self._ranges, at), (self._ranges, reply))
        if at is None or reply is None:
            loan.give_back()
            return None
        offsets = []
        for size in sizes:
            offsets.append(at)
            at += pad(size)
        return offsets, {"segment": self.index, "offset": reply, "bytes": reply_bytes}, loan


class Segments:
    def __init__(self, request: Segment, reply: Segment) -> None:
        self._request = _File(request["path"], request["bytes"])
        try:
            self._reply = _File(reply["path"], reply["bytes"])
        except BaseException:
            self._request.close()
            raise
        self._indices = (request["index"], reply["index"])
        self.request_ranges = _Ranges(request["bytes"])
        self.reply_ranges = _Ranges(reply["bytes"])

    def proof(self) -> str:
        """Shows the sidecar that this process sees the same files."""
        hashed = hashlib.sha256()
        for file in (self._request, self._reply):
            nonce = bytearray(_NONCE_BYTES)
            file.read_into(memoryview(nonce), 0)
            hashed.update(nonce)
        return hashed.hexdigest()

    def put(self, tensors: Sequence[TensorLike], reply_bytes: int) -> tuple[list[dict[str, Any]], dict[str, int] | None, Loan] | None:
        """Writes tensors into the request segment and reserves room for the reply.

        Returns descriptors, the reply range (None when there is no room for it) and the loan; None when the tensors must go into a frame.
        """
        rows, end = lay_out(tensors, 0, self._indices[0])
        at = self.request_ranges.take(max(end, 1))
        if at is None:
            return None
        reply_at = self.reply_ranges.take(reply_bytes) if reply_bytes > 0 else None
        loan = Loan((self.request_ranges, at), (self.reply_ranges, reply_at))
        try:
            for row, tensor in zip(rows, tensors, strict=True):
                row["offset"] += at
                self._request.write(buffer_of(tensor), row["offset"])
        except OSError:
            # The memory file system is full: the frame is the way that always works.
            loan.give_back()
            return None
        except BaseException:
            loan.give_back()
            raise
        reply = None if reply_at is None else {"segment": self._indices[1], "offset": reply_at, "bytes": reply_bytes}
        return rows, reply, loan

    def get(self, row: dict[str, Any]) -> Tensor:
        """Copies one described tensor out of the reply segment."""
        if row["segment"] != self._indices[1] or row["offset"] + row["bytes"] > self._reply.size:
            raise SidecarError("CLIENT_PROTOCOL", "The sidecar answered with a range outside the reply segment.")
        data = bytearray(row["bytes"])
        self._reply.read_into(memoryview(data), row["offset"])
        return Tensor(row["name"], row["dtype"], tuple(row["shape"]), memoryview(data))

    def close(self) -> None:
        self._request.close()
        self._reply.close()
