"""Where a checkpoint's parameters lie, and positioned reads of them. No mapping: a file cut short is an error, not a crash."""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from ..failure import HostFailure, expect
from ..wire import check
from .dtypes import FLOAT_DTYPES
from .safetensors_header import Header, missing, read_header


@dataclass(frozen=True)
class SourceFile:
    path: Path
    size_bytes: int
    mtime_ns: str
    inode: str


@dataclass(frozen=True)
class Piece:
    """A tensor of a file that holds rows [start, start + length) of a parameter; `swap_halves`: its own halves are exchanged."""

    file: int
    key: str
    start: int
    length: int
    swap_halves: bool


@dataclass(frozen=True)
class ParameterSource:
    """One canonical parameter as stored, in one piece or several. `scale_key`: f32 scalar of scaled fp8; effective weight = stored * scale."""

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    scale_key: str | None

    def shape_of(self, piece: Piece) -> tuple[int, ...]:
        return self.shape if len(self.pieces) == 1 else (piece.length, *self.shape[1:])

    @staticmethod
    def parse(row: dict[str, Any], name: str, files: int) -> "ParameterSource":
        shape, dtype = check.shape(row.get("shape"), name), check.text(row, "dtype")
        expect(dtype in FLOAT_DTYPES, "HOST_INVALID_PARAMS", f"{name}: {dtype} holds no weights")
        if row.get("pieces") is None:
            pieces = (Piece(check.whole(row, "file"), check.text(row, "key"), 0, shape[0] if shape else 1, False),)
        else:
            pieces = tuple(
                Piece(check.whole(p, "file"), check.text(p, "key"), check.whole(p, "start"), check.whole(p, "length"), check.flag(p, "swapHalves"))
                for p in (check.obj(item, name) for item in check.arr(row["pieces"], name))
            )
        at = 0
        for piece in pieces:
            expect(piece.file < files, "HOST_INVALID_PARAMS", f"{name}: no such file in the checkpoint source")
            expect(piece.start == at, "HOST_INVALID_PARAMS", f"{name}: its pieces leave a gap or overlap")
            at += piece.length
        expect(at == (shape[0] if shape else 1), "HOST_INVALID_PARAMS", f"{name}: its pieces do not cover its rows")
        return ParameterSource(dtype, shape, pieces, check.text_or_none(row, "scaleKey"))


@dataclass(frozen=True)
class CheckpointSource:
    files: tuple[SourceFile, ...]
    parameters: Mapping[str, ParameterSource]

    @staticmethod
    def parse(value: Any) -> "CheckpointSource":
        body = check.obj(value, "checkpoint")
        files = tuple(
            SourceFile(Path(check.text(f, "path")), check.whole(f, "sizeBytes"), check.text(f, "mtimeNs"), check.text(f, "inode"))
            for f in (check.obj(item, "checkpoint.files") for item in check.arr(body.get("files"), "checkpoint.files"))
        )
        rows = check.obj(body.get("parameters"), "checkpoint.parameters").items()
        parameters = {name: ParameterSource.parse(check.obj(item, name), name, len(files)) for name, item in rows}
        return CheckpointSource(files, parameters)


class CheckpointReader:
    """Open files of one checkpoint. Safe to use from several threads; every thread reads through its own descriptor."""

    def __init__(self, source: CheckpointSource) -> None:
        """Raises HOST_FILE_CHANGED when a file differs from its description, HOST_FILE_INVALID otherwise."""
        self.source = source
        self._local = threading.local()
        self._open: list[Any] = []
        self._lock = threading.Lock()
        self._headers = [self._checked_header(file) for file in source.files]
        for name, parameter in source.parameters.items():
            for piece in parameter.pieces:
                self._entry_of(name, piece.file, piece.key, parameter.dtype, parameter.shape_of(piece))

    @staticmethod
    def _check_stamp(file: SourceFile) -> None:
        try:
            stat = os.stat(file.path)
        except OSError as error:
            raise missing(file.path, error) from error
        same = stat.st_size == file.size_bytes and str(stat.st_mtime_ns) == file.mtime_ns and str(stat.st_ino) == file.inode
        expect(same, "HOST_FILE_CHANGED", "the checkpoint file changed since it was catalogued; wait until it is settled", name=file.path.name)

    @classmethod
    def _checked_header(cls, file: SourceFile) -> Header:
        cls._check_stamp(file)
        return read_header(file.path)

    def _entry_of(self, name: str, file: int, key: str, dtype: str | None, shape: tuple[int, ...] | None) -> tuple[int, int]:
        entry = self._headers[file].entries.get(key)
        if entry is None or (dtype is not None and entry.dtype != dtype) or (shape is not None and entry.shape != shape):
            found = "nothing" if entry is None else f"{entry.dtype}{list(entry.shape)}"
            raise HostFailure("HOST_FILE_CHANGED", f"{name}: expected {dtype}{list(shape or ())}, the file holds {found}", {"parameter": name})
        return entry.begin, entry.end

    def spans(self, name: str) -> list[tuple[int, int, int, Piece]]:
        """(file, begin, end, piece) of a parameter's stored bytes, in row order."""
        out = []
        for piece in self.source.parameters[name].pieces:
            entry = self._headers[piece.file].entries[piece.key]
            out.append((piece.file, entry.begin, entry.end, piece))
        return out

    def scale(self, name: str) -> float | None:
        """Scalar of a scaled fp8 parameter, None for all others."""
        parameter = self.source.parameters[name]
        if parameter.scale_key is None:
            return None
        file = parameter.pieces[0].file
        begin, end = self._entry_of(name, file, parameter.scale_key, "F32", None)
        expect(end - begin == 4, "HOST_FILE_INVALID", f"{name}: expected one f32 scale", parameter=name)
        raw = bytearray(4)
        self.read_into(file, begin, memoryview(raw))
        return struct.unpack("<f", raw)[0]

    def _descriptor(self, file: int) -> Any:
        opened = getattr(self._local, "files", None)
        if opened is None:
            opened = self._local.files = {}
        if file not in opened:
            try:
                opened[file] = self.source.files[file].path.open("rb", buffering=0)
            except OSError as error:
                raise missing(self.source.files[file].path, error) from error
            with self._lock:
                self._open.append(opened[file])
        return opened[file]

    def _unreadable(self, file: int, reason: str) -> HostFailure:
        name = self.source.files[file].path.name
        return HostFailure("HOST_FILE_INVALID", f"reading the checkpoint failed: {reason}", {"name": name})

    def read_into(self, file: int, begin: int, target: memoryview) -> None:
        """Fills `target` from `begin`. [any thread] Raises HOST_FILE_INVALID when the file ends early."""
        descriptor = self._descriptor(file)
        done = 0
        try:
            descriptor.seek(begin)
            while done < target.nbytes:
                got = descriptor.readinto(target[done:])
                if not got:
                    raise self._unreadable(file, f"it ends {target.nbytes - done} bytes early")
                done += got
        except (OSError, ValueError) as error:
            raise self._unreadable(file, type(error).__name__) from error

    def check_unchanged(self) -> None:
        """Raises HOST_FILE_CHANGED when a file differs from its description."""
        for file in self.source.files:
            self._check_stamp(file)

    def close(self) -> None:
        with self._lock:
            for opened in self._open:
                opened.close()
            self._open.clear()
        self._local = threading.local()
