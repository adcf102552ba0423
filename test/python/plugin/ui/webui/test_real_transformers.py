"""Flux and SD3 in a real Forge on CPU, and Flux in a real Forge Neo, which load their text encoders and VAE apart.

The real sidecar with the embedded engine, narrow files, fp32.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pictures import Pictures, rms  # noqa: E402
from test_real_ui import agrees  # noqa: E402

pytestmark = pytest.mark.e2e

FLUX_PARTS = ["ae.safetensors", "clip_l.safetensors", "t5.safetensors"]
SD3_PARTS = ["ae.safetensors", "clip_l.safetensors", "clip_g.safetensors", "t5.safetensors"]
SIZE = {"width": 96, "height": 64, "scheduler": "Simple"}


def of(checkpoint: str, parts: list[str], **changes: object) -> dict[str, object]:
    settings = {"sd_model_checkpoint": checkpoint, "forge_additional_modules": parts}
    return {**SIZE, "override_settings": settings, "override_settings_restore_afterwards": False, **changes}


DEV = of("flux", FLUX_PARTS, cfg_scale=1.0, distilled_cfg_scale=3.5)
SCHNELL = of("schnell", FLUX_PARTS, cfg_scale=1.0)
MEDIUM = of("sd3", SD3_PARTS, cfg_scale=4.0, negative_prompt="a dog")
KOHYA, DIFFUSERS = "a cat <lora:flux-kohya:0.7>", "a cat <lora:flux-diffusers:0.8>"
RUNS = {
    "Flux dev, kohya": (DEV, KOHYA),
    "Flux dev, diffusers": (DEV, DIFFUSERS),
    "Flux dev, both": (DEV, f"{KOHYA} <lora:flux-diffusers:-0.4>"),
    "Flux schnell": (SCHNELL, DIFFUSERS),
    "SD3": (MEDIUM, "a cat <lora:sd3-kohya:0.7>"),
}


@pytest.fixture(scope="module", params=["Forge", "Forge Neo"])
def server(request, tmp_path_factory):
    """REFIT_WEBUI_TRANSFORMERS: a folder that transformer_checkpoints.py filled before, which saves half a minute a run."""
    from sidecar_process import Sidecar, server_environment
    from ui_server import TRANSFORMERS, UIS, UiServer, make_models

    ui = UIS[request.param]
    if reason := ui.skip_reason() or (None if shutil.which("node") else "no node on PATH"):
        pytest.skip(reason)
    if ready := os.environ.get("REFIT_WEBUI_TRANSFORMERS"):
        models = Path(ready)
    else:
        models = tmp_path_factory.mktemp("transformers")
        make_models(models, TRANSFORMERS)
    sidecar = Sidecar(tmp_path_factory.mktemp("data"))
    running = UiServer(ui, tmp_path_factory.mktemp(ui.name.replace(" ", "-")), models, server_environment(sidecar))
    try:
        yield running.ready(sd_model_checkpoint="flux")
    finally:
        running.stop()
        sidecar.kill()


@pytest.fixture
def pictures(server, tmp_path):
    return Pictures(server, tmp_path)


def skip_sd3(pictures, choices: dict) -> None:
    if choices is MEDIUM and pictures.server.ui.name == "Forge Neo":
        pytest.skip("Forge Neo has no SD3")


@pytest.mark.parametrize(("choices", "prompt"), RUNS.values(), ids=RUNS.keys())
def test_a_transformer_is_served_with_adapters_in_every_spelling(pictures, choices, prompt):
    """In kohya's names one patch is one weight; in diffusers' names q, k and v are three patches on rows of one. Schnell has no input for a guidance."""
    skip_sd3(pictures, choices)
    plain, plain_served = pictures.both("a cat", **choices)
    assert rms(plain - plain_served) <= 1e-3 * rms(plain)
    own, served = pictures.both(prompt, **choices)
    assert agrees(own, served, plain)
    assert torch.equal(pictures("a cat", **choices), plain_served)


def test_each_family_has_one_engine_for_all_its_files_and_adapters(pictures):
    """Dev and schnell differ in their weights' names."""
    families = ["flux", "flux"] if pictures.server.ui.name == "Forge Neo" else ["flux", "flux", "sd3"]
    assert sorted(engine["family"] for engine in pictures.engines()) == families


@pytest.mark.parametrize(
    "changes",
    [
        {"distilled_cfg_scale": 1.7},
        {"batch_size": 2},
        {"width": 72, "height": 88},
        {"cfg_scale": 3.0, "negative_prompt": "a dog"},
        {"sampler_name": "DPM++ 2M"},
        {"prompt": "word " * 300 + KOHYA},
        {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7, "hr_cfg": 1.0},
    ],
    ids=["guidance", "batch", "odd sizes", "a negative prompt", "another sampler", "more words than 256", "hires"],
)  # fmt: skip
def test_flux_is_served_in_every_shape(pictures, changes):
    hires = pictures.hires() if "enable_hr" in changes else {}
    own, served = pictures.both(**{"prompt": KOHYA, **DEV, **changes, **hires})
    assert rms(own - served) <= 1e-3 * rms(own)


def test_flux_in_low_bits_is_forges_own_picture(pictures):
    """ "Diffusion in Low Bits" rounds weights in the UI, and an engine has the file's."""

    def store(name: str, memory: int) -> None:
        # Forge's API applies the first setting only together with one of memory, Neo's with another checkpoint; the page's own choice does at once.
        more = {"sd_model_checkpoint": "schnell"} if pictures.server.ui.name == "Forge Neo" else {"forge_inference_memory": memory}
        pictures.server.call("/sdapi/v1/options", {"forge_unet_storage_dtype": name, **more})

    store("float8-e4m3fn", 1025)
    try:
        own, here = pictures(KOHYA, on=False, **DEV), pictures(KOHYA, **DEV)
        assert torch.equal(own, here)
        assert pictures.last_run["served_by"] == "local", pictures.last_run
        assert any(word in pictures.last_run["reason"] for word in ("float8_e4m3fn", "is fp8")), pictures.last_run
    finally:
        store("Automatic", 1024)
    pictures.both(KOHYA, **DEV)
