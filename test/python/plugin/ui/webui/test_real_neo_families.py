"""Families in a real Forge Neo on CPU that the torch host alone serves: narrow files, fp32."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pictures import Pictures, noise_png, rms  # noqa: E402
from test_real_transformers import of  # noqa: E402
from test_real_ui import agrees  # noqa: E402

pytestmark = pytest.mark.e2e

CHROMA = of("chroma", ["ae.safetensors", "t5.safetensors"], cfg_scale=3.0, negative_prompt="a dog")
STYLE = "a cat <lora:chroma-kohya:0.8>"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """REFIT_WEBUI_TRANSFORMERS: a folder that transformer_checkpoints.py filled before."""
    from sidecar_process import Sidecar, server_environment
    from ui_server import TRANSFORMERS, UIS, UiServer, make_models

    ui = UIS["Forge Neo"]
    if reason := ui.skip_reason() or (None if shutil.which("node") else "no node on PATH"):
        pytest.skip(reason)
    if ready := os.environ.get("REFIT_WEBUI_TRANSFORMERS"):
        models = Path(ready)
    else:
        models = tmp_path_factory.mktemp("transformers")
        make_models(models, TRANSFORMERS)
    sidecar = Sidecar(tmp_path_factory.mktemp("data"), "torch")
    running = UiServer(ui, tmp_path_factory.mktemp("neo"), models, server_environment(sidecar))
    try:
        yield running.ready(sd_model_checkpoint="chroma")
    finally:
        running.stop()
        sidecar.kill()


@pytest.fixture
def pictures(server, tmp_path):
    return Pictures(server, tmp_path)


def test_chroma_is_served_with_an_adapter_and_goes_back_bit_for_bit(pictures):
    plain, base = pictures.both("a cat", **CHROMA)
    assert rms(plain - base) <= 1e-3 * rms(plain)
    own, served = pictures.both(STYLE, **CHROMA)
    assert agrees(own, served, plain)
    assert torch.equal(pictures("a cat", **CHROMA), base)
    assert [engine["family"] for engine in pictures.engines()] == ["chroma"]


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 2}, {"cfg_scale": 1.0}, {"width": 72, "height": 88}, {"init_images": [noise_png(64)], "denoising_strength": 0.6}],
    ids=["batch", "CFG 1", "odd sizes", "img2img"],
)
def test_chroma_is_served_in_every_shape(pictures, changes):
    own, served = pictures.both(STYLE, **{**CHROMA, **changes})
    assert rms(own - served) <= 1e-3 * rms(own)
