"""ControlNet residuals from the plugin's client through a whole sidecar to an engine host, once left in the client's segment and once in frames."""

import importlib.util
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from refit_sidecar_plugin.client import SidecarClient, SidecarError, Tensor

ROOT = Path(__file__).resolve().parents[4]
SIDE = 64
# The demo model's own table; the first three are 1 MiB each: large enough to stay in the segment.
SHAPES = [(32, 1)] * 3 + [(32, 2)] + [(64, 2)] * 2 + [(64, 4)] * 3 + [(64, 8)] * 3


def floats(name, shape, seed):
    make = random.Random(seed)
    count = 1
    for size in shape:
        count *= size
    row = struct.pack("<256f", *(make.uniform(-1, 1) for _ in range(256)))
    return Tensor(name, "f32", shape, (row * (count // 256 + 1))[: count * 4])


def inputs(seed):
    residuals = [
        floats(f"down_residual_{index}", (2, channels, SIDE // part, SIDE // part), seed + index)
        for index, (channels, part) in enumerate(SHAPES)
    ]
    own = [
        floats("sample", (2, 4, SIDE, SIDE), 1),
        Tensor("timestep", "f32", (2,), struct.pack("<2f", 500, 500)),
        floats("encoder_hidden_states", (2, 4, 768), 2),
    ]
    return [*own, *residuals, floats("mid_residual", (2, 64, SIDE // 8, SIDE // 8), seed)]


@pytest.fixture(params=["torch", pytest.param("onnxruntime", marks=pytest.mark.e2e)])
def sidecar(request, tmp_path):
    cli = ROOT / "sidecar/bin/refit-sidecar.mjs"
    if not (ROOT / "sidecar/dist/src/wire/index.js").exists():
        pytest.skip("the sidecar is not built (npm run build)")
    if request.param == "torch" and importlib.util.find_spec("diffusers") is None:
        pytest.skip("this Python lacks the torch host's packages")
    folder, data = tmp_path / "checkpoints", tmp_path / "data"
    folder.mkdir()
    data.mkdir(mode=0o700)
    shutil.copy(ROOT / "sidecar/demo/demo-unet.safetensors", folder / "demo.safetensors")
    command = [shutil.which("node") or "node", str(cli), "serve", "--json", "--stop-with-stdin", "--data-dir", str(data)]
    command += ["--checkpoints", str(folder), "--host", request.param, "--python", sys.executable]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert json.loads(process.stdout.readline())["ok"]
    yield request.param, data
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def opened(client):
    while not (
        found := [
            entry
            for entry in client.call("catalog.list", {"kind": "checkpoint"}).result["entries"]
            if entry["problem"] is None and entry["sha256"]
        ]
    ):
        pass
    wish = {
        "checkpoint": found[0]["id"],
        "stack": [],
        "profile": "auto",
        "precision": "fp32",
        "host": "auto",
        "mode": "comfyui",
        "residuals": True,
        "priority": "user",
    }
    return client.call("engine.prepare", wish, timeout_s=120).result["lease"]


def test_residuals_in_a_segment_give_what_they_give_in_a_frame(sidecar):
    host, data = sidecar
    with SidecarClient("placed", "1", data) as placed, SidecarClient("framed", "1", data) as framed:
        framed.session()._segments = None
        assert placed.session().uses_segments
        answers = {client: [] for client in (placed, framed)}
        leases = {client: opened(client) for client in answers}

        def step(client, tensors):
            reply = client.call("engine.step", {"lease": leases[client]}, tensors, timeout_s=120)
            return bytes(reply.tensors["out_sample"].data)

        for seed in (10, 40):
            for client, answered in answers.items():
                answered.append(step(client, inputs(seed)))
        assert answers[placed] == answers[framed] and len(set(answers[placed])) == 2
        # The host opens a segment by its name, the sidecar has it open: this tells who read it, and that a client harms nobody but itself.
        Path(placed.session().hello["segments"]["request"]["path"]).unlink()
        if host == "torch":
            with pytest.raises(SidecarError) as failure:
                step(placed, inputs(10))
            assert failure.value.code == "WIRE_SEGMENT_FAILED"
        else:
            assert step(placed, inputs(10)) == answers[placed][0]
        placed.session()._segments = None
        assert step(placed, inputs(10)) == answers[placed][0]
