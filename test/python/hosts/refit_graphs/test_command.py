"""The exporter as a command: what it answers, its exit status, and that it leaves nothing half made."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from graph_structures import ROOT, tiny, tiny_shapes
from safetensors.torch import save_file


def run(*arguments: str, path: str | None = str(ROOT / "sidecar/hosts/python")) -> tuple[int, dict]:
    """Runs `python -m refit_graphs` without a network name to resolve; returns the exit status and the last line of stdout."""
    environment = {**os.environ, "PYTHONPATH": path or "", "OMP_NUM_THREADS": "1", "HTTPS_PROXY": "http://127.0.0.1:9"}
    result = subprocess.run(
        [sys.executable, "-m", "refit_graphs", *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    return result.returncode, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.e2e
def test_exports_from_a_checkpoint_file_and_names_the_structure(tmp_path):
    model = tiny("sd15", widths=[32, 32, 32, 32])
    checkpoint = tmp_path / "tiny ü.safetensors"
    save_file({f"model.diffusion_model.{name}": tensor.contiguous() for name, tensor in model.weights.items()}, checkpoint)
    out = tmp_path / "cache" / "tiny"
    status, answer = run("--header", str(checkpoint), "--out", str(out))
    assert status == 0 and answer["ok"] and answer["family"] == "sd15"
    table = json.loads((out / "graph.json").read_text(encoding="utf-8"))
    assert (table["structure"], table["name"]) == (answer["structure"], "tiny")
    assert sorted(path.name for path in out.iterdir()) == sorted([*table["variants"].values(), "graph.json"])
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    # The table alone is the same table.
    status, answer = run("--header", str(checkpoint), "--out", str(tmp_path / "table" / "tiny"), "--table")
    assert status == 0 and [path.name for path in (tmp_path / "table" / "tiny").iterdir()] == ["graph.json"]
    assert json.loads((tmp_path / "table" / "tiny" / "graph.json").read_text(encoding="utf-8")) == table


@pytest.mark.parametrize(
    "name, content",
    [
        ("pickle.safetensors", b"PK\x03\x04" + bytes(100)),
        ("short.safetensors", struct.pack("<Q", 1000) + b"{}"),
        ("empty.safetensors", b""),
        ("list.json", b"[1, 2]"),
        ("no-shape.json", b'{"a": {"dtype": "F16"}}'),
        ("binary.json", b"\xff\xfe\x00"),
    ],
)
def test_an_unreadable_header_is_bad_input(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    status, answer = run("--header", str(tmp_path / name), "--out", str(tmp_path / "out"))
    assert (status, answer["code"]) == (2, "GRAPH_HEADER_UNREADABLE")
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_bad_input_and_its_path_is_not_repeated(tmp_path):
    status, answer = run("--header", str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "out"))
    assert (status, answer["code"], answer["lasting"]) == (2, "GRAPH_HEADER_UNREADABLE", False)
    assert str(tmp_path) not in answer["message"]


@pytest.mark.e2e
def test_an_unknown_network_is_unsupported_and_an_older_bundle_stays(tmp_path):
    header = tmp_path / "other.json"
    header.write_text(json.dumps({"double_layers.0.attn.w1q.weight": {"dtype": "F16", "shape": [4, 4]}}), encoding="utf-8")
    old = tmp_path / "out"
    old.mkdir()
    (old / "graph.json").write_text("{}", encoding="utf-8")
    status, answer = run("--header", str(header), "--out", str(old))
    assert (status, answer["code"]) == (1, "GRAPH_STRUCTURE_UNSUPPORTED")
    # The sidecar does not try it again until one of these folders changes.
    assert answer["lasting"] and any("site-packages" in folder for folder in answer["packages"])
    assert [path.name for path in old.iterdir()] == ["graph.json"]


def test_a_python_without_the_packages_is_told_which(tmp_path):
    """A folder with a broken `torch` before the real one stands for an environment without it."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here', name='torch')", encoding="utf-8")
    header = tmp_path / "header.json"
    header.write_text("{}", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "sidecar/hosts/python")])
    status, answer = run("--header", str(header), "--out", str(tmp_path / "out"), path=path)
    assert (status, answer["code"]) == (3, "GRAPH_PACKAGE_MISSING")
    assert "torch" in answer["message"]
    assert answer["lasting"]


@pytest.mark.parametrize(("text", "lasting"), [("shapes differ", True), ("DefaultCPUAllocator: can't allocate memory", False)])
def test_an_error_that_nobody_foresaw_is_a_verdict_too(tmp_path, text, lasting):
    (tmp_path / "torch.py").write_text(f"raise RuntimeError({text!r})", encoding="utf-8")
    header = tmp_path / "header.json"
    header.write_text("{}", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "sidecar/hosts/python")])
    status, answer = run("--header", str(header), "--out", str(tmp_path / "out"), path=path)
    assert (status, answer["code"], answer["lasting"]) == (4, "GRAPH_EXPORT_BROKEN", lasting)
    assert text not in answer["message"]


def test_a_failure_while_tracing_leaves_no_folder(tmp_path, monkeypatch):
    from refit_graphs import bundle

    def fail(*_: object) -> None:
        raise RuntimeError("tracing broke")

    monkeypatch.setattr(bundle, "_trace", fail)
    with pytest.raises(RuntimeError, match="tracing broke"):
        bundle.export_bundle(tiny_shapes("sd15", [32, 32, 32, 32]), "x", tmp_path / "x", lambda text: None)
    assert list(Path(tmp_path).iterdir()) == []
    assert torch.is_grad_enabled()
