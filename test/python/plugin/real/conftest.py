"""Real ComfyUI on CPU, real sidecar with the embedded engine, tiny checkpoints. Skipped with a reason where there is no ComfyUI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from comfy_server import REPO, ComfyServer, make_models, skip_reason  # noqa: E402
from graphs import Choices, graph  # noqa: E402

REASON = skip_reason() or (None if shutil.which("node") else "no node on PATH")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.fspath).parents:
            item.add_marker(pytest.mark.e2e)
            if REASON:
                item.add_marker(pytest.mark.skip(reason=REASON))


class Sidecar:
    """The built sidecar on its own data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.start()

    def start(self) -> None:
        (self.data / "sidecar.json").unlink(missing_ok=True)
        command = ["node", str(REPO / "sidecar/bin/refit-sidecar.mjs"), "serve", "--data-dir", str(self.data), "--host", "onnxruntime", "--precision", "fp32"]
        command += ["--python", os.environ.get("REFIT_TEST_PYTHON", sys.executable)]
        self.log = open(self.data / "test.log", "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while not (self.data / "sidecar.json").exists():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.data / "test.log").read_text()[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comfyui")
    make_models(folder / "models", "sd15_tiny", "sd15_other", "sd15_inpaint")
    return folder


@pytest.fixture(scope="session")
def sidecar(tmp_path_factory) -> Iterator[Sidecar]:
    made = Sidecar(tmp_path_factory.mktemp("data"))
    yield made
    made.kill()


def server_environment(sidecar: Sidecar) -> dict[str, str]:
    return {"REFIT_DATA_DIR": str(sidecar.data), "REFIT_SIDECAR": "off", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def comfy(base, sidecar) -> Iterator[ComfyServer]:
    server = ComfyServer(base, environment=server_environment(sidecar)).ready()
    yield server
    server.stop()


class Run:
    """Runs graphs and keeps what came out."""

    def __init__(self, server: ComfyServer, out: Path) -> None:
        self.server, self.out = server, out / "latent.pt"

    def __call__(self, choices: Choices) -> torch.Tensor:
        self.out.unlink(missing_ok=True)
        self.outputs = self.server.prompt(graph(self.out, choices))["outputs"]
        return torch.load(self.out)

    def both(self, choices: Choices) -> tuple[torch.Tensor, torch.Tensor]:
        """ComfyUI's own path and the engine's, which must have served."""
        own = self(replace(choices, loader="CheckpointLoaderSimple"))
        served = self(replace(choices, loader="RefitLoadEngine"))
        self.assert_served()
        return own, served

    @property
    def status(self) -> str:
        return self.outputs["status"]["text"][0]

    @property
    def last_run(self) -> dict:
        return self.server.call("/refit/facts")["lastRun"]

    def assert_served(self) -> None:
        last = self.last_run
        assert last["served_by"] == "engine", json.dumps(last)


@pytest.fixture
def run(comfy, tmp_path) -> Run:
    return Run(comfy, tmp_path)


def rms(tensor: torch.Tensor) -> float:
    return tensor.double().pow(2).mean().sqrt().item()


@pytest.fixture(scope="session")
def relative() -> Callable[[torch.Tensor, torch.Tensor], float]:
    """RMS of the difference, relative to the first tensor's."""
    return lambda expected, got: rms(expected - got) / rms(expected)
