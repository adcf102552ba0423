"""Real ComfyUI on CPU, real sidecar with the embedded engine, tiny checkpoints. Skipped with a reason where there is no ComfyUI."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from comfy_run import Run, rms  # noqa: E402
from comfy_server import ComfyServer, kept, make_models, skip_reason  # noqa: E402
from sidecar_process import Sidecar, server_environment  # noqa: E402

REASON = skip_reason() or (None if shutil.which("node") else "no node on PATH")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.fspath).parents:
            item.add_marker(pytest.mark.e2e)
            if REASON:
                item.add_marker(pytest.mark.skip(reason=REASON))


def pytest_terminal_summary(terminalreporter):
    if Run.served:
        terminalreporter.write_line("runs that met the plugin: " + ", ".join(f"{who} {count}" for who, count in sorted(Run.served.items())))


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    folder = kept("comfyui", tmp_path_factory.mktemp)
    make_models(folder / "models", "sd15_tiny", "sd15_other", "sd15_inpaint", "vega_tiny")
    return folder


@pytest.fixture(scope="session")
def transformers(base) -> None:
    """SD3 and Flux: 2 GB that only the tests of those classes need."""
    make_models(base / "models", "sd3_tiny", "flux_tiny")


@pytest.fixture(scope="session")
def sidecar(tmp_path_factory) -> Iterator[Sidecar]:
    made = Sidecar(kept("data", tmp_path_factory.mktemp))
    yield made
    made.kill()


@pytest.fixture(scope="session")
def comfy(base, sidecar) -> Iterator[ComfyServer]:
    server = ComfyServer(base, environment=server_environment(sidecar)).ready()
    yield server
    server.stop()


@pytest.fixture
def run(comfy, tmp_path) -> Run:
    return Run(comfy, tmp_path)


@pytest.fixture(scope="session")
def relative() -> Callable[[torch.Tensor, torch.Tensor], float]:
    """RMS of the difference, relative to the first tensor's."""
    return lambda expected, got: rms(expected - got) / rms(expected)
