"""Compiled code in the engine store: what PyTorch gives is kept whole, and only what the store vouches for is handed back to it."""

from __future__ import annotations

import pytest
import torch
from refit_host.engine_store import EngineFinger, EngineKey, EngineStore
from refit_host.torch_engine.artifacts import ENGINE_FILE, CompiledCode

FINGER = EngineFinger("2.11 triton 3.6", "580.65", "card")


def code(folder, structure: str = "s", refit_map: list | None = None) -> CompiledCode:
    return CompiledCode(
        EngineStore(folder), EngineKey(structure, "f16", "any", "torch", "torch 2.11", "sm90", "580"), FINGER, refit_map or []
    )


@pytest.fixture
def compiler(monkeypatch):
    """PyTorch's cache as one blob."""
    given: list[bytes] = []
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (b"compiled code", None))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", lambda raw: given.append(raw) or object())
    return given


def test_what_was_saved_is_loaded_for_the_same_key_alone(tmp_path, compiler):
    folder = tmp_path / "store"
    assert not code(folder).load()
    assert code(folder).save() > 0
    assert code(folder).load()
    assert not code(folder, "other").load()
    assert not code(folder, refit_map=[{"parameter": "p"}]).load()
    assert compiler == [b"compiled code"]


def test_a_damaged_file_is_never_handed_on(tmp_path, compiler):
    folder = tmp_path / "store"
    code(folder).save()
    (path,) = folder.glob(f"*/{ENGINE_FILE}")
    path.write_bytes(b"Compiled code")
    assert not code(folder).load()
    assert compiler == []


def test_nothing_compiled_is_nothing_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: None)
    assert code(tmp_path / "store").save() == 0
    assert list((tmp_path / "store").iterdir()) == []
