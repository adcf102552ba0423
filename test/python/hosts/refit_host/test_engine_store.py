"""The engine store as a host reads and writes it: exactly what was published, only from folders that nobody else can write, whole after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from refit_host.engine_platform import branch, major_minor
from refit_host.engine_store import EngineFinger, EngineKey, EngineStore

KEY = EngineKey("s" * 64, "f16", "any", "torch", "torch 2.11", "sm90", "580")
FINGER = EngineFinger("2.11.0+cu130 triton 3.6.0", "580.65.06", "card")
MAP = [{"parameter": "p", "weight": "p", "shape": [2, 3], "rows": None, "swapHalves": False, "refittable": True}]
FILES = {"engine.bin": b"compiled code" * 100}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def test_the_name_of_an_entry_is_the_one_that_the_sidecar_computes():
    # test/sidecar/store/store.test.ts checks the same text.
    assert (
        EngineKey("a" * 64, "fp16", "auto", "torch", "torch 2.11", "sm90", "580").entry
        == "8a117f8ef534355b30fd9a82c243633084fbf84bd968c88c3e5256b764fb8766"
    )


def test_what_was_published_is_found_and_proven_for_the_same_versions_alone(folder):
    store = EngineStore(folder)
    assert store.find(KEY, FINGER, MAP) is None
    assert store.publish(KEY, FINGER, FILES, MAP) > 1300
    found = store.find(KEY, FINGER, MAP)
    assert found is not None and found.proven and found.files["engine.bin"] == FILES["engine.bin"]
    for finer in (replace(FINGER, driver="580.95"), replace(FINGER, libraryVersion="2.11.1"), replace(FINGER, device="other")):
        other = store.find(KEY, finer, MAP)
        assert other is not None and not other.proven


@pytest.mark.parametrize("field", ["structure", "precision", "profile", "host", "library", "capability", "driverBranch"])
def test_another_key_is_another_engine(folder, field):
    store = EngineStore(folder)
    store.publish(KEY, FINGER, FILES, MAP)
    assert store.find(replace(KEY, **{field: "other"}), FINGER, MAP) is None


def test_an_engine_for_another_refit_map_is_not_served(folder):
    store = EngineStore(folder)
    store.publish(KEY, FINGER, FILES, MAP)
    assert store.find(KEY, FINGER, [{**MAP[0], "refittable": False}]) is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [
    lambda place: flip(place / "engine.bin"), lambda place: flip(place / "refit-map.json"), lambda place: (place / "engine.bin").write_bytes(b""),
    lambda place: (place / "engine.bin").unlink(), lambda place: (place / "manifest.json").write_text("{"),
    lambda place: (place / "manifest.json").write_text((place / "manifest.json").read_text().replace("engine.bin", "../../x.bin")),
    lambda place: (place / "manifest.json").write_text((place / "manifest.json").read_text().replace("sm90", "sm89")),
])  # fmt: skip
def test_a_damaged_entry_is_moved_away_and_never_served(folder, spoil):
    store = EngineStore(folder)
    store.publish(KEY, FINGER, FILES, MAP)
    spoil(folder / KEY.entry)
    assert store.find(KEY, FINGER, MAP) is None
    assert list(folder.iterdir()) == []


def test_an_imported_engine_is_not_proven(folder):
    store = EngineStore(folder)
    store.publish(KEY, FINGER, FILES, MAP)
    manifest = folder / KEY.entry / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "origin": "f" * 64}))
    found = store.find(KEY, FINGER, MAP)
    assert found is not None and not found.proven


@pytest.mark.skipif(os.name == "nt", reason="the folder's owner is checked on POSIX systems only")
def test_a_folder_that_others_can_write_is_neither_read_nor_written(folder):
    EngineStore(folder).publish(KEY, FINGER, FILES, MAP)
    folder.chmod(0o777)
    store = EngineStore(folder)
    assert store.find(KEY, FINGER, MAP) is None
    assert store.publish(KEY, FINGER, FILES, MAP) == 0
    assert EngineStore(None, [folder]).find(KEY, FINGER, MAP) is None


def test_a_shared_store_is_read_and_left_alone(folder, tmp_path):
    EngineStore(folder).publish(KEY, FINGER, FILES, MAP)
    own = tmp_path / "own"
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    store = EngineStore(own, [folder])
    assert store.find(KEY, FINGER, MAP) is not None
    flip(folder / KEY.entry / "engine.bin")
    assert store.find(KEY, FINGER, MAP) is None
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.name != "engine.bin") == [
        row for row in before if row[0].name != "engine.bin"
    ]
    assert list(own.iterdir()) == []


def test_reading_and_writing_are_chosen_apart(folder, tmp_path):
    EngineStore(folder).publish(KEY, FINGER, FILES, MAP)
    unread = EngineStore(folder, unread=True)
    assert unread.find(KEY, FINGER, MAP) is None
    assert unread.publish(KEY, FINGER, FILES, MAP) > 0
    unwritten = EngineStore(None, [folder])
    assert unwritten.publish(KEY, FINGER, FILES, MAP) == 0
    assert unwritten.find(KEY, FINGER, MAP) is not None


def test_an_exact_engine_goes_before_one_of_finer_difference(folder, tmp_path):
    shared = tmp_path / "shared"
    EngineStore(folder).publish(KEY, replace(FINGER, driver="580.1"), {"engine.bin": b"older"}, MAP)
    EngineStore(shared).publish(KEY, FINGER, {"engine.bin": b"exact"}, MAP)
    found = EngineStore(folder, [shared]).find(KEY, FINGER, MAP)
    assert found is not None and found.proven and found.files["engine.bin"] == b"exact"


def test_a_newer_engine_takes_the_place_and_the_pin(folder):
    store = EngineStore(folder)
    store.publish(KEY, FINGER, {"engine.bin": b"one size"}, MAP)
    (folder / KEY.entry / "pinned").touch()
    store.publish(KEY, FINGER, {"engine.bin": b"two sizes"}, MAP)
    found = store.find(KEY, FINGER, MAP)
    assert found is not None and found.files["engine.bin"] == b"two sizes"
    assert (folder / KEY.entry / "pinned").exists()
    assert [path.name for path in folder.iterdir()] == [KEY.entry]


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {hosts!r})
from refit_host import engine_store
from refit_host.engine_store import EngineFinger, EngineKey, EngineStore
left = int(sys.argv[2])
def dying(real):
    def call(*args, **more):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return real(*args, **more)
    return call
for name in ("open", "fsync", "rename", "mkdir"):
    setattr(os, name, dying(getattr(os, name)))
write = engine_store.write_synced
def half(path, data):
    global left
    left -= 1
    if left == 0:
        path.write_bytes(data[: len(data) // 2])
        os._exit(9)
    write(path, data)
engine_store.write_synced = half
EngineStore(Path(sys.argv[1])).publish(EngineKey(*{key!r}), EngineFinger(*{finger!r}), {{"engine.bin": b"new" * 5000}}, [])
print(left)
"""


def test_killed_at_every_write_the_old_engine_is_there_or_the_new_one(folder):
    hosts = str(Path(__file__).resolve().parents[4] / "sidecar/hosts/python")
    script = KILLED.format(hosts=hosts, key=(*vars(KEY).values(),), finger=(*vars(FINGER).values(),))
    for count in range(1, 100):
        store = EngineStore(folder)
        store.publish(KEY, FINGER, {"engine.bin": b"old" * 5000}, [])
        ended = subprocess.run([sys.executable, "-c", script, str(folder), str(count)], capture_output=True, text=True)
        assert ended.returncode in (0, 9), ended.stderr
        found = EngineStore(folder).find(KEY, FINGER, [])
        # Between the two renames there is none: then it is built again.
        assert found is None or found.files["engine.bin"] in (b"old" * 5000, b"new" * 5000)
        if ended.returncode == 0:
            break
    assert count > 10
    assert EngineStore(folder).find(KEY, FINGER, []).files["engine.bin"] == b"new" * 5000


def test_versions_as_keys_name_them():
    assert [major_minor("2.11.0+cu130"), major_minor("1.7.1.116"), branch("580.65.06"), branch("")] == ["2.11", "1.7", "580", ""]
