"""Files of the sidecar on a node: read where they are, or brought once per node through Ray's object store.

A host refuses a checkpoint whose stamp is not the catalogued one. A copy has a stamp of its own, so the call that names the file gets path and stamp of the copy;
the original is held against the catalogued stamp at every read. A copy stays as long as an actor uses it (a lock on it, which ends with the process), the least
recently used ones go when the disk fills.

A run asks the file server only about what this actor does not know: to ask one whose node is gone takes seconds, and the weights of a run that waits may be here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Literal

from refit_host.failure import HostFailure

Mode = Literal["auto", "shared", "store"]
# Ray moves an object as a whole; two of them are on their way at a time.
CHUNK_BYTES = 32 << 20
AHEAD = 2
# A graph that is known is asked about again, but not waited for.
KNOWN_SECONDS = 1.0
# Between two questions whether a file server that was away is back.
BACK_SECONDS = 1.0
# What is left to others on a node's disk.
SPARE_BYTES = 2 << 30


class SourceAway(HostFailure):
    """The file server cannot be reached. What this node has already is as good as it was."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            "HOST_FILE_MISSING",
            f"the sidecar's files cannot be reached from this node ({reason}); is the sidecar's own node in the cluster?",
        )


@dataclass(frozen=True)
class Stamp:
    size: int
    mtime_ns: int
    inode: int

    @staticmethod
    def of(path: str) -> "Stamp":
        facts = os.stat(path)
        return Stamp(facts.st_size, facts.st_mtime_ns, facts.st_ino)


class FileServer:
    """Runs on the sidecar's own node and reads what the sidecar names. As a Ray actor its answers travel through the object store."""

    def facts(self, path: str) -> Stamp | dict[str, Stamp]:
        """Of a file; of every file of a folder, by name."""
        try:
            if os.path.isdir(path):
                return {entry.name: Stamp.of(entry.path) for entry in os.scandir(path) if entry.is_file()}
            return Stamp.of(path)
        except OSError as error:
            raise HostFailure("HOST_FILE_MISSING", "expected a file that the sidecar can read; it is gone") from error

    def read(self, path: str, stamp: Stamp, offset: int, count: int) -> bytes:
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(count)
                facts = os.fstat(file.fileno())
        except OSError as error:
            raise HostFailure("HOST_FILE_MISSING", "expected a file that the sidecar can read; it is gone") from error
        if Stamp(facts.st_size, facts.st_mtime_ns, facts.st_ino) != stamp or len(data) != count:
            raise HostFailure("HOST_FILE_CHANGED", "the file changed while it was brought to a node; it is catalogued again")
        return data


@dataclass(frozen=True)
class Source:
    """How a node asks the file server. `facts` waits for so many seconds; None: until Ray gives up, so that one which is being started is waited for.
    `read` begins a read and answers how to wait for it. Both raise SourceAway."""

    facts: Callable[[str, float | None], Stamp | dict[str, Stamp]]
    read: Callable[[str, Stamp, int, int], Callable[[], bytes]]
    is_here: bool


class NodeFiles:
    """This actor's view of its node's copies."""

    def __init__(self, mode: Mode, source: Source, folder: Path) -> None:
        self._mode = mode
        self._source = source
        self._folder = folder
        self._held: dict[Path, int] = {}
        self._graphs: dict[str, dict[str, Stamp]] = {}
        # By path and content: another content is another file, whatever its path.
        self._deltas: dict[tuple[str, str], str] = {}
        self._away: SourceAway | None = None
        self._lock = threading.Lock()

    def localise(self, params: dict[str, Any]) -> dict[str, Any]:
        """Params of `load` or `prepare` with the places that this node has. Raises HostFailure."""
        if self._mode == "shared" or self._source.is_here:
            return params
        out = dict(params)
        checkpoint = params.get("checkpoint")
        if isinstance(checkpoint, dict):
            out["checkpoint"] = {**checkpoint, "files": [self._checkpoint_file(row) for row in checkpoint["files"]]}
        out["stack"] = [{**row, "delta": self._delta(row["delta"], row["sha256"])} for row in params["stack"]]
        if isinstance(params.get("graph"), dict):
            out["graph"] = {**params["graph"], "folder": self._graph(params["graph"]["folder"])}
        return out

    def _checkpoint_file(self, row: dict[str, Any]) -> dict[str, Any]:
        stamp = Stamp(row["sizeBytes"], int(row["mtimeNs"]), int(row["inode"]))
        path = self._place(row["path"], stamp)
        here = Stamp.of(path)
        return {**row, "path": path, "sizeBytes": here.size, "mtimeNs": str(here.mtime_ns), "inode": str(here.inode)}

    def _delta(self, path: str, sha256: str) -> str:
        """`sha256`: of the adapter that it was made from, which together with the path says its content; the host checks it."""
        if self._mode == "auto" and os.path.isfile(path):
            return path
        known = self._deltas.get((path, sha256))
        # Nobody removes it: it is held.
        if known is not None and os.path.isfile(known):
            self._hold(Path(known).parent)
            return known
        stamp = self._there(path, lambda: self._source.facts(path, None))
        copy = self._place(path, stamp)
        if copy != path:
            self._deltas[path, sha256] = copy
        return copy

    def _graph(self, folder: str) -> str:
        if self._mode == "auto" and os.path.isdir(folder):
            return folder
        files = self._known_graph(folder) or self._there(folder, lambda: self._source.facts(folder, None))
        self._graphs[folder] = files
        name = hashlib.sha256(repr((folder, sorted(files.items(), key=lambda item: item[0]))).encode()).hexdigest()[:32]
        for file, stamp in files.items():
            self._place(os.path.join(folder, file), stamp, name)
        return str(self._folder / name)

    def _known_graph(self, folder: str) -> dict[str, Stamp] | None:
        """None: this actor has not had it."""
        known = self._graphs.get(folder)
        if known is None or self._away is not None:
            return known
        try:
            facts = self._source.facts(folder, KNOWN_SECONDS)
        except SourceAway:
            # Not in time: no reason to refuse others anything.
            return known
        assert isinstance(facts, dict)
        return facts

    def _there(self, path: str, ask: Callable[[], Any]) -> Any:
        """Only one run finds out that the file server is away; until it answers again, the others are told at once. Raises HostFailure."""
        if self._away is not None:
            raise SourceAway(self._away.reason)
        try:
            return ask()
        except SourceAway as error:
            with self._lock:
                if self._away is None:
                    self._away = error
                    threading.Thread(target=self._await_source, args=(path,), name="refit-files", daemon=True).start()
            raise

    def _await_source(self, path: str) -> None:
        while True:
            time.sleep(BACK_SECONDS)
            try:
                self._source.facts(path, None)
            except SourceAway:
                continue
            except HostFailure:
                pass  # that file is gone; the file server is not
            self._away = None
            return

    def _place(self, path: str, stamp: Stamp, folder: str | None = None) -> str:
        if self._mode == "auto":
            try:
                if Stamp.of(path) == stamp:
                    return path
            except OSError:
                pass  # it is not on this node
        key = folder or hashlib.sha256(repr((path, stamp)).encode()).hexdigest()[:32]
        copy = self._folder / key / os.path.basename(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        self._hold(copy.parent)
        with open(copy.parent / ".fetch", "w") as lock:
            # One actor of the node brings it, the others wait and find it.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.is_file() or copy.stat().st_size != stamp.size:
                self._fetch(path, stamp, copy)
        return str(copy)

    def _hold(self, folder: Path) -> None:
        if folder not in self._held:
            self._held[folder] = os.open(folder / ".use", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._held[folder], fcntl.LOCK_SH)
        os.utime(folder / ".use")

    def _fetch(self, path: str, stamp: Stamp, copy: Path) -> None:
        self._make_room(stamp.size)
        part = copy.with_name(f".part-{os.getpid()}")
        waiting: deque[Callable[[], bytes]] = deque()
        offset = 0
        with open(part, "wb") as out:
            while offset < stamp.size or waiting:
                while offset < stamp.size and len(waiting) < AHEAD:
                    count = min(CHUNK_BYTES, stamp.size - offset)
                    waiting.append(self._source.read(path, stamp, offset, count))
                    offset += count
                out.write(self._there(path, waiting.popleft()))
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, copy)

    def _make_room(self, size: int) -> None:
        root = self._folder.parent
        copies = sorted(root.glob("*/*/.use"), key=lambda path: path.stat().st_mtime)
        for use in copies:
            if shutil.disk_usage(root).free >= size + SPARE_BYTES:
                return
            with open(use) as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # an actor uses it
                shutil.rmtree(use.parent, ignore_errors=True)
        free = shutil.disk_usage(root).free
        if free < size + SPARE_BYTES:
            raise HostFailure(
                "HOST_FILE_MISSING", f"expected room for a copy of {size} bytes on the node's disk, {free} are free; give it a larger one"
            )


def cache_folder(node: str) -> Path:
    """Where this node's copies lie. Several nodes on one computer have a folder each."""
    root = os.environ.get("REFIT_RAY_CACHE") or os.path.join(tempfile.gettempdir(), f"refit-ray-{os.getuid()}")
    folder = Path(root) / node[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
