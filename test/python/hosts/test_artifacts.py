"""Engine files of compiled code: only what this user alone could have written and whose bytes are unchanged is handed to PyTorch."""

from __future__ import annotations

import os

import pytest
import torch
from refit_host.torch_engine import artifacts
from refit_host.torch_engine.artifacts import MAX_FILES, EngineKey


def key(structure: str = "s") -> EngineKey:
    return EngineKey(structure, "torch.float16", "2.11", "3.6", "card", "9.0")


@pytest.fixture
def compiler(monkeypatch):
    """PyTorch's cache as one blob."""
    given: list[bytes] = []
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (b"compiled code", None))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", lambda raw: given.append(raw) or object())
    return given


def test_what_was_saved_is_loaded_for_the_same_key_alone(tmp_path, compiler):
    folder = tmp_path / "store"
    assert not artifacts.load(folder, key())
    assert artifacts.save(folder, key(), {}) == len(b"compiled code")
    assert artifacts.load(folder, key())
    assert not artifacts.load(folder, key("other"))
    assert compiler == [b"compiled code"]


def test_a_damaged_file_is_never_handed_on(tmp_path, compiler):
    folder = tmp_path / "store"
    artifacts.save(folder, key(), {})
    (folder / f"{key().stem}.bin").write_bytes(b"Compiled code")
    assert not artifacts.load(folder, key())
    assert not (folder / f"{key().stem}.json").exists()
    assert compiler == []


@pytest.mark.skipif(os.name == "nt", reason="the folder's owner is checked on POSIX systems only")
def test_a_folder_that_others_can_write_is_neither_read_nor_written(tmp_path, compiler):
    folder = tmp_path / "store"
    artifacts.save(folder, key(), {})
    folder.chmod(0o777)
    assert not artifacts.load(folder, key())
    assert artifacts.save(folder, key("other"), {}) == 0
    assert compiler == []


def test_the_store_keeps_the_files_that_were_used_last(tmp_path, compiler):
    folder = tmp_path / "store"
    for number in range(MAX_FILES):
        artifacts.save(folder, key(str(number)), {})
        os.utime(folder / f"{key(str(number)).stem}.bin", (1000 + number, 1000 + number))
    assert artifacts.load(folder, key("0"))
    artifacts.save(folder, key("new"), {})
    assert [artifacts.load(folder, key(name)) for name in ("0", "1", "new")] == [True, False, True]
    assert len(list(folder.iterdir())) == 2 * MAX_FILES
