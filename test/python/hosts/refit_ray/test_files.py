"""Files of the sidecar on a node: where they are, or one copy for each node. Ray is not needed: the file server is asked directly."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Callable

import pytest
from refit_host.failure import HostFailure
from refit_ray import files as module
from refit_ray.files import FileServer, Mode, NodeFiles, Source, SourceAway, Stamp


class Asked:
    """A file server, and how often each file was read."""

    def __init__(self, is_here: bool = False) -> None:
        self.server = FileServer()
        self.reads: list[str] = []
        self.source = Source(self.facts, self.read, is_here)
        self.questions: list[str] = []

    def facts(self, path: str, seconds: float | None) -> Stamp | dict[str, Stamp]:
        self.questions.append(os.path.basename(path))
        return self.server.facts(path)

    def read(self, path: str, stamp: Stamp, offset: int, count: int) -> Callable[[], bytes]:
        self.reads.append(os.path.basename(path))
        return lambda: self.server.read(path, stamp, offset, count)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Params of a load whose files lie in a folder of the sidecar's."""
    own = tmp_path / "own"
    (own / "graph").mkdir(parents=True)
    for name in ("base.safetensors", "one.delta", "graph/graph.json", "graph/fp32.onnx"):
        (own / name).write_bytes(name.encode() * 5)
    stamp = Stamp.of(str(own / "base.safetensors"))
    row = {"path": str(own / "base.safetensors"), "sizeBytes": stamp.size, "mtimeNs": str(stamp.mtime_ns), "inode": str(stamp.inode)}
    return {
        "engine": "e",
        "checkpoint": {"files": [row], "parameters": {"a": 1}},
        "stack": [{"delta": str(own / "one.delta"), "sha256": "0" * 64, "strength": 1.0}],
        "graph": {"folder": str(own / "graph"), "variant": "fp32"},
    }


def node(asked: Asked, mode: Mode, folder: Path) -> NodeFiles:
    folder.mkdir(parents=True, exist_ok=True)
    return NodeFiles(mode, asked.source, folder)


def test_brings_each_file_once_to_a_node_and_names_the_copy_with_its_own_stamp(tmp_path, given, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 7)
    asked = Asked()
    out = node(asked, "store", tmp_path / "copies" / "n").localise(given)
    (row,) = out["checkpoint"]["files"]
    assert Path(row["path"]).read_bytes() == Path(given["checkpoint"]["files"][0]["path"]).read_bytes()
    assert Stamp(row["sizeBytes"], int(row["mtimeNs"]), int(row["inode"])) == Stamp.of(row["path"])
    assert row["path"] != given["checkpoint"]["files"][0]["path"]
    assert out["checkpoint"]["parameters"] == {"a": 1} and out["stack"][0]["strength"] == 1.0
    assert sorted(p.name for p in Path(out["graph"]["folder"]).glob("*") if not p.name.startswith(".")) == ["fp32.onnx", "graph.json"]
    before = list(asked.reads)
    # Another actor of the same node.
    assert node(asked, "store", tmp_path / "copies" / "n").localise(given)["stack"] == out["stack"]
    assert asked.reads == before
    node(asked, "store", tmp_path / "copies" / "m").localise(given)
    assert len(asked.reads) == 2 * len(before)


def test_reads_where_it_is_what_the_node_has_too(tmp_path, given):
    for mode in ("auto", "shared"):
        asked = Asked()
        assert node(asked, mode, tmp_path / mode / "n").localise(given) == given
        assert asked.reads == []
    here = Asked(is_here=True)
    assert node(here, "store", tmp_path / "here" / "n").localise(given) == given


def test_brings_a_file_that_is_another_one_on_the_node(tmp_path, given):
    # The sidecar's own file, as it is elsewhere: this node has another one under its name.
    asked = Asked()
    path = given["checkpoint"]["files"][0]["path"]
    original = Path(path).read_bytes()
    stamp = Stamp.of(path)
    Path(path).write_bytes(b"another one")
    asked.source = Source(asked.facts, lambda *_: lambda: original, False)
    (row,) = node(asked, "auto", tmp_path / "copies" / "n").localise(given)["checkpoint"]["files"]
    assert row["path"] != path and Path(row["path"]).read_bytes() == original and row["sizeBytes"] == stamp.size


def test_refuses_a_file_that_changes_or_goes_on_its_way(tmp_path, given):
    path = Path(given["checkpoint"]["files"][0]["path"])
    asked = Asked()
    path.write_bytes(b"shorter")
    with pytest.raises(HostFailure) as changed:
        node(asked, "store", tmp_path / "copies" / "n").localise(given)
    assert changed.value.code == "HOST_FILE_CHANGED"
    path.unlink()
    with pytest.raises(HostFailure) as gone:
        node(asked, "store", tmp_path / "copies" / "m").localise(given)
    assert gone.value.code == "HOST_FILE_MISSING"
    # Nothing of it counts as a copy.
    assert not [p for p in (tmp_path / "copies").rglob("base.safetensors")]


def other(given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same params with a delta that differs."""
    return {**given, "stack": [{**given["stack"][0], **changes}]}


def test_asks_once_about_a_delta_and_again_when_its_adapter_is_another_one(tmp_path, given):
    asked = Asked()
    files = node(asked, "store", tmp_path / "copies" / "n")
    first = files.localise(given)
    assert files.localise(given) == first and asked.questions.count("one.delta") == 1
    Path(given["stack"][0]["delta"]).write_bytes(b"of another adapter")
    assert files.localise(given) == first
    (row,) = files.localise(other(given, sha256="1" * 64))["stack"]
    assert Path(row["delta"]).read_bytes() == b"of another adapter" and asked.questions.count("one.delta") == 2
    # A copy that somebody took away is brought again.
    Path(row["delta"]).unlink()
    assert files.localise(other(given, sha256="1" * 64))["stack"] == [row] and Path(row["delta"]).is_file()


class Away:
    """Takes the place of a file server that does not answer; `back` opens it again."""

    def __init__(self, asked: Asked, monkeypatch: Any) -> None:
        self.asked, self.facts = asked, asked.source.facts
        self.tried: list[tuple[str, float | None]] = []
        self.back = threading.Event()
        monkeypatch.setattr(module, "BACK_SECONDS", 0)
        object.__setattr__(asked.source, "facts", self.ask)

    def ask(self, path: str, seconds: float | None) -> Stamp | dict[str, Stamp]:
        if threading.current_thread().name == "refit-files":
            self.back.wait()
        if self.back.is_set():
            return self.facts(path, seconds)
        self.tried.append((os.path.basename(path), seconds))
        raise SourceAway("ActorDiedError")


def test_uses_its_copies_while_the_file_server_is_away_without_asking_for_them(tmp_path, given, monkeypatch):
    asked = Asked()
    files = node(asked, "store", tmp_path / "copies" / "n")
    before = files.localise(given)
    away = Away(asked, monkeypatch)
    assert files.localise(given) == before
    # The graph alone, and nobody waits long for it.
    assert away.tried == [("graph", module.KNOWN_SECONDS)]


def test_refuses_what_it_lacks_while_the_file_server_is_away_and_brings_it_when_it_answers(tmp_path, given, monkeypatch):
    asked = Asked()
    files = node(asked, "store", tmp_path / "copies" / "n")
    before = files.localise(given)
    Path(given["stack"][0]["delta"] + "2").write_bytes(b"never here before")
    lacks = other(given, delta=given["stack"][0]["delta"] + "2")
    away = Away(asked, monkeypatch)
    for _ in range(3):
        with pytest.raises(HostFailure, match="cannot be reached from this node .ActorDiedError"):
            files.localise(lacks)
        assert files.localise(given) == before
    # One run has found out, and told the others: the graph that is known is not asked about either.
    assert away.tried == [("one.delta2", None)]
    away.back.set()
    for thread in threading.enumerate():
        if thread.name == "refit-files":
            thread.join()
    assert Path(files.localise(lacks)["stack"][0]["delta"]).read_bytes() == b"never here before"


def test_finds_out_by_a_file_that_stops_on_its_way_too(tmp_path, given, monkeypatch):
    asked = Asked()
    files = node(asked, "store", tmp_path / "copies" / "n")
    away = Away(asked, monkeypatch)

    def gone(*_: Any) -> Any:
        raise SourceAway("ActorUnavailableError")

    object.__setattr__(asked.source, "read", lambda *_: gone)
    for _ in range(2):
        with pytest.raises(SourceAway, match="ActorUnavailableError"):
            files.localise(given)
    assert away.tried == []
    away.back.set()


def test_gives_up_copies_that_nobody_uses_when_the_disk_fills(tmp_path, given, monkeypatch):
    class Usage:
        free = 0

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage)
    Usage.free = 10 << 30
    used, unused = tmp_path / "copies" / "n" / "used", tmp_path / "copies" / "n" / "unused"
    for folder in (used, unused):
        folder.mkdir(parents=True)
        (folder / ".use").touch()
    import fcntl

    with open(used / ".use") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        Usage.free = 0
        with pytest.raises(HostFailure, match="room"):
            node(Asked(), "store", tmp_path / "copies" / "n").localise(given)
    assert used.exists() and not unused.exists()
