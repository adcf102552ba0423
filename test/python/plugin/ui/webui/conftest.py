"""A real UI on CPU, the real sidecar with the embedded engine, tiny checkpoints. Skipped with a reason where a UI is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """REFIT_WEBUI_MODELS: a folder that webui_checkpoints.py filled before, which saves a minute a run."""
    from ui_server import make_models

    if ready := os.environ.get("REFIT_WEBUI_MODELS"):
        return Path(ready)
    folder = tmp_path_factory.mktemp("models")
    make_models(folder)
    return folder


@pytest.fixture(scope="session")
def sidecar(tmp_path_factory) -> Iterator[object]:
    from sidecar_process import Sidecar

    made = Sidecar(tmp_path_factory.mktemp("data"))
    yield made
    made.kill()


@pytest.fixture(scope="session", params=["Forge", "Forge Neo", "A1111", "A1111 with --medvram", "reForge"])
def server(request, tmp_path_factory) -> Iterator[object]:
    """The UI is asked for before anything is made for it."""
    from sidecar_process import server_environment
    from ui_server import UIS, UiServer

    ui = UIS[request.param]
    if reason := ui.skip_reason() or (None if shutil.which("node") else "no node on PATH"):
        pytest.skip(reason)
    environment = server_environment(request.getfixturevalue("sidecar"))
    running = UiServer(ui, tmp_path_factory.mktemp(ui.name.split()[0]), request.getfixturevalue("models"), environment)
    try:
        yield running.ready()
    finally:
        running.stop()


@pytest.fixture
def pictures(server, tmp_path) -> object:
    from pictures import Pictures

    return Pictures(server, tmp_path)
