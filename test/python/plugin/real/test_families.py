"""Families that the torch host serves without a graph, in a real ComfyUI: the stock workflow of a file in diffusion_models, served by the engine.

The files are narrow relatives with the names of the real ones; a node of the tests tells ComfyUI's detection their widths.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfy_run import Run, rms
from comfy_server import REPO, ComfyServer
from graphs import Choices, node

sys.path[:0] = [str(REPO / path) for path in ("sidecar/hosts/python", "", "test/python/graphs", "test/python/hosts", "test/python/served")]

from served_sidecar import Sidecar  # noqa: E402
from small_files import write_adapter, write_checkpoint  # noqa: E402


def video(nodes, link):
    nodes["empty"] = node("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)
    return link


#: Structure -> what its workflow gives: channels of the latent, width and number of words, pixels.
WORKFLOWS = {
    "z-image-comfyui": Choices(folder="diffusion_models", channels=16, context=40, tokens=37, size=128),
    "qwen-image": Choices(folder="diffusion_models", channels=16, context=40, tokens=20, size=128),
    "wan21-t2v": Choices(folder="diffusion_models", channels=16, context=48, tokens=20, latent=video),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    (folder / "models").mkdir()
    for name in WORKFLOWS:
        write_checkpoint(folder / "models" / "diffusion_models", name)
        write_adapter(folder / "models" / "loras", name, 1)
    return folder


@pytest.fixture(scope="module")
def torch_sidecar(models):
    python = os.environ.get("REFIT_TEST_PYTHON", sys.executable)
    made = Sidecar(
        models, "--host", "torch", "--precision", "fp32", "--python", python, folders=("models/diffusion_models", "models/loras")
    )
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(models, torch_sidecar):
    made = ComfyServer(
        models, environment={"REFIT_DATA_DIR": str(torch_sidecar.data), "REFIT_SIDECAR": "off", "OMP_NUM_THREADS": "1"}
    ).ready()
    yield made
    made.stop()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_stock_workflow_with_a_lora_is_served_by_the_engine(server, tmp_path, name):
    run, plain = Run(server, tmp_path), replace(WORKFLOWS[name], checkpoint=f"{name}.safetensors")
    with_adapter = replace(plain, adapters=[(f"{name}-1.safetensors", 0.8)])
    own_base, base = run.both(plain)
    own, served = run.both(with_adapter)
    effect = rms(own - own_base)
    assert effect > 0 and torch.isfinite(own).all()
    assert rms(base - own_base) < 0.01 * effect
    assert rms(served - own) < 0.01 * effect
    assert torch.equal(run(replace(plain, loader="RefitLoadEngine", seed=plain.seed)), base)
