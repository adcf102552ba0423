"""Where a checkpoint's parameters lie, and positioned reads of them. No mapping: a file cut short is an error, not a crash."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from ..failure import HostFailure, expect
from ..wire import protocol
from .dtypes import FLOAT_DTYPES
from .safetensors_header import Entry, Header, missing, read_header
from .storage import Storage, check_dtype, stored_shape_fits


@dataclass(frozen=True)
class SourceFile:
    path: Path
    size_bytes: int
    mtime_ns: str
    inode: str


@dataclass(frozen=True)
class Piece:
    """A tensor of a file that holds rows [start, start + length) of a parameter; `swap_halves`: its own halves are exchanged. `dtype`: the container's; `storage`: how its
    numbers become values, None for plain ones."""

    file: int
    key: str
    dtype: str
    start: int
    length: int
    swap_halves: bool
    storage: Storage | None

    @staticmethod
    def parse(row: protocol.CheckpointSourceParametersValuePiece, name: str) -> "Piece":
        given = row.get("storage")
        storage = None if given is None else Storage.parse(given, name)
        check_dtype(name, storage, row["dtype"], FLOAT_DTYPES)
        return Piece(row["file"], row["key"], row["dtype"], row["start"], row["length"], row["swapHalves"], storage)


@dataclass(frozen=True)
class ParameterSource:
    """One canonical parameter as stored, in one piece or several."""

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    def shape_of(self, piece: Piece) -> tuple[int, ...]:
        return self.shape if len(self.pieces) == 1 else (piece.length, *self.shape[1:])

    @staticmethod
    def parse(row: protocol.CheckpointSourceParametersValue, name: str, files: int) -> "ParameterSource":
        shape = tuple(row["shape"])
        rows = shape[0] if shape else 1
        pieces = tuple(Piece.parse(item, name) for item in row["pieces"])
        at = 0
        for piece in pieces:
            expect(piece.file < files, "HOST_INVALID_PARAMS", f"{name}: no such file in the checkpoint source")
            expect(piece.start == at, "HOST_INVALID_PARAMS", f"{name}: its pieces leave a gap or overlap")
            at += piece.length
        expect(at == rows, "HOST_INVALID_PARAMS", f"{name}: its pieces do not cover its rows")
        return ParameterSource(shape, pieces)


@dataclass(frozen=True)
class CheckpointSource:
    files: tuple[SourceFile, ...]
    parameters: Mapping[str, ParameterSource]

    @staticmethod
    def parse(value: protocol.CheckpointSource) -> "CheckpointSource":
        files = tuple(SourceFile(Path(f["path"]), f["sizeBytes"], f["mtimeNs"], f["inode"]) for f in value["files"])
        parameters = {name: ParameterSource.parse(item, name, len(files)) for name, item in value["parameters"].items()}
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
                self._check_piece(name, piece, parameter.shape_of(piece))

    @staticmethod
    def _check_stamp(file: SourceFile) -> None:
        try:
            stat = os.stat(file.path)
        except OSError as error:
            raise missing(file.path, error) from error
        same = stat.st_size == file.size_bytes and str(stat.st_mtime_ns) == file.mtime_ns and str(stat.st_ino) == file.inode
        expect(
            same, "HOST_FILE_CHANGED", "the checkpoint file changed since it was catalogued; wait until it is settled", name=file.path.name
        )

    @classmethod
    def _checked_header(cls, file: SourceFile) -> Header:
        cls._check_stamp(file)
        return read_header(file.path)

    def _check_piece(self, name: str, piece: Piece, shape: tuple[int, ...]) -> None:
        entry = self._headers[piece.file].entries.get(piece.key)
        fits = entry is not None and entry.dtype == piece.dtype and (
            entry.shape == shape if piece.storage is None else stored_shape_fits(piece.storage, entry.shape, shape)
        )  # fmt: skip
        if not fits:
            found = "nothing" if entry is None else f"{entry.dtype}{list(entry.shape)}"
            raise HostFailure(
                "HOST_FILE_CHANGED", f"{name}: expected {piece.dtype}{list(shape)}, the file holds {found}", {"parameter": name}
            )
        for key in () if piece.storage is None else piece.storage.keys:
            if key not in self._headers[piece.file].entries:
                raise HostFailure(
                    "HOST_FILE_CHANGED", f"{name}: expected {key.rpartition('.')[2]} beside it, the file holds nothing", {"parameter": name}
                )

    def entry(self, file: int, key: str) -> Entry:
        """Where a tensor lies, and what it is."""
        return self._headers[file].entries[key]

    def spans(self, name: str) -> list[tuple[int, int, int, Piece]]:
        """(file, begin, end, piece) of a parameter's stored bytes, in row order."""
        out = []
        for piece in self.source.parameters[name].pieces:
            entry = self._headers[piece.file].entries[piece.key]
            out.append((piece.file, entry.begin, entry.end, piece))
        return out

    def read(self, file: int, key: str) -> bytearray:
        """All bytes of a small tensor: scales. [any thread] Raises HOST_FILE_INVALID."""
        entry = self._headers[file].entries[key]
        raw = bytearray(entry.end - entry.begin)
        self.read_into(file, entry.begin, memoryview(raw))
        return raw

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
