"""The real sidecar and a way to run graphs, for the tests and benchmarks on a real ComfyUI."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from comfy_server import REPO, ComfyServer
from graphs import Choices, graph


class Sidecar:
    """The built sidecar on its own data folder, with the embedded engine in fp32."""

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


def server_environment(sidecar: Sidecar) -> dict[str, str]:
    # One thread: the test machine's cores are shared, and torch's threads wait for each other by spinning.
    return {"REFIT_DATA_DIR": str(sidecar.data), "REFIT_SIDECAR": "off", "OMP_NUM_THREADS": "1"}


class Run:
    """Runs graphs and keeps what came out. Each result has a file of its own, because ComfyUI does not run a node again that it knows."""

    # The first run of a structure exports its graph, which takes minutes on a busy machine.
    PATIENCE_S = 400.0

    def __init__(self, server: ComfyServer, out: Path) -> None:
        self.server, self._out, self._count = server, out, itertools.count()
        self.outputs: dict = {}

    def next_file(self) -> Path:
        return self._out / f"latent-{next(self._count)}.pt"

    def __call__(self, choices: Choices) -> torch.Tensor:
        file = self.next_file()
        self.outputs = self.server.prompt(graph(file, choices), self.PATIENCE_S)["outputs"]
        return torch.load(file)

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


def rms(tensor: torch.Tensor) -> float:
    return tensor.double().pow(2).mean().sqrt().item()
