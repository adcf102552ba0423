"""A way to run graphs, for the tests and benchmarks on a real ComfyUI."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from comfy_server import ComfyServer
from graphs import Choices, graph


class Run:
    """Runs graphs and keeps what came out. Each result has a file of its own, because ComfyUI does not run a node again that it knows."""

    # Who served the runs of this session that the plugin had to do with; printed at its end.
    served: Counter[str] = Counter()
    # The first run of a structure exports its graph, which takes minutes on a busy machine.
    PATIENCE_S = 400.0

    def __init__(self, server: ComfyServer, out: Path) -> None:
        self.server, self._out, self._count = server, out, itertools.count()
        self.outputs: dict = {}

    def next_file(self) -> Path:
        return self._out / f"latent-{next(self._count)}.pt"

    def __call__(self, choices: Choices) -> torch.Tensor:
        file = self.next_file()
        before, lines = self.last_run, self.local_lines()
        try:
            self.outputs = self.server.prompt(graph(file, choices), self.PATIENCE_S)["outputs"]
        finally:
            # A run on an engine has its own times; one in ComfyUI has a line in the log.
            self.served["ComfyUI"] += self.local_lines() - lines
            self.served["engine"] += (last := self.last_run) != before and last["served_by"] == "engine"
        return torch.load(file)

    def local_lines(self) -> int:
        return sum("runs in ComfyUI itself" in line for line in self.server.log)

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
        report = last["report"]
        if report["host"] == "torch" and sys.platform == "linux":
            # UI and engine on one device: nothing of a step goes another way.
            assert report["on_device"] == report["steps"] and not report["not_on_device"], json.dumps(report)


def rms(tensor: torch.Tensor) -> float:
    return tensor.double().pow(2).mean().sqrt().item()
