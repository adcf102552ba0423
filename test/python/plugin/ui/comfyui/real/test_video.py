"""Video in the UI: core's workflows of Wan and LTX-Video on an engine, with progress for every step, previews, and an interrupt that gives the UI back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfy_run import Run, rms
from comfy_server import ComfyServer, kept
from graphs import OWN_LOADER, Choices, graph
from narrow_models import comfyui_with, torch_sidecar, write_narrow
from test_families import WORKFLOWS
from websockets.sync.client import connect

VIDEOS = ("wan21-t2v", "ltxv")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return write_narrow(kept("videos", tmp_path_factory.mktemp), VIDEOS)


@pytest.fixture(scope="module")
def server(models) -> Iterator[ComfyServer]:
    with torch_sidecar(models) as sidecar, comfyui_with(sidecar, "--preview-method", "latent2rgb") as made:
        yield made


def choices(name: str, **more: object) -> Choices:
    return replace(WORKFLOWS[name], checkpoint=f"{name}.safetensors", adapters=[(f"{name}-1.safetensors", 0.8)], **more)


class Watcher:
    """A page's connection to the server: progress of the sampler as (value, max), and the previews that came."""

    def __init__(self, server: ComfyServer) -> None:
        self.progress: list[tuple[int, int]] = []
        self.previews = 0
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(f"ws://127.0.0.1:{server.port}/ws?clientId=watcher", max_size=None))
        # A page of today says that it takes previews with their place.
        self._socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for message in self._socket:
            if isinstance(message, bytes):
                self.previews += int.from_bytes(message[:4], "big") in (1, 4)
            elif (said := json.loads(message))["type"] == "progress" and said["data"].get("node") == "sample":
                self.progress.append((said["data"]["value"], said["data"]["max"]))

    def close(self) -> None:
        self._open.close()
        self._thread.join(10)


def queue(server: ComfyServer, nodes: dict) -> str:
    return server.call("/prompt", {"prompt": nodes, "client_id": "watcher"})["prompt_id"]


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_is_made_on_the_engine_with_progress_and_previews(server, tmp_path, name):
    run, steps = Run(server, tmp_path), 6
    plain = choices(name, steps=steps)
    own = run(replace(plain, loader=OWN_LOADER))
    watcher = Watcher(server)
    try:
        file = run.next_file()
        server.wait(queue(server, graph(file, replace(plain, loader="RefitLoadEngine"))), run.PATIENCE_S)
        deadline = time.monotonic() + 20
        while (steps, steps) not in watcher.progress and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        watcher.close()
    run.assert_served()
    assert rms(torch.load(file) - own) <= 1e-3 * rms(own)
    assert [value for value, of in watcher.progress if of == steps][-steps:] == list(range(1, steps + 1)), watcher.progress
    assert watcher.previews >= steps - 1, watcher.previews


@pytest.mark.parametrize("name", VIDEOS)
def test_an_interrupt_ends_a_video_between_two_steps_and_the_next_one_is_right(server, tmp_path, name):
    run = Run(server, tmp_path)
    expected = run(choices(name, loader="RefitLoadEngine"))
    run.assert_served()
    watcher = Watcher(server)
    try:
        prompt = queue(server, graph(run.next_file(), choices(name, loader="RefitLoadEngine", steps=2000, seed=9)))
        deadline = time.monotonic() + 120
        while not any(of == 2000 for _, of in watcher.progress):
            assert time.monotonic() < deadline, watcher.progress
            time.sleep(0.02)
        server.call("/interrupt", {})
        entry = server.wait(prompt, 60)
    finally:
        watcher.close()
    assert "execution_interrupted" in [message for message, _ in entry["status"]["messages"]], entry["status"]
    assert max(value for value, of in watcher.progress if of == 2000) < 2000
    assert torch.equal(run(choices(name, loader="RefitLoadEngine", seed=5)), expected)
    run.assert_served()
