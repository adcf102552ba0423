"""A way to run graphs, for the tests and benchmarks on a real ComfyUI."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import torch
from comfy_server import ComfyServer
from graphs import Choices, graph


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
