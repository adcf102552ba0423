"""What Forge Neo alone has, in a real one on CPU, and SDXL in Forge and in Neo: the real sidecar with the embedded engine, narrow files, fp32."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from pictures import noise_png, rms  # noqa: E402
from test_real_transformers import DEV, DIFFUSERS, FLUX_PARTS, KOHYA, of, pictures, server  # noqa: E402, F401
from test_real_ui import agrees  # noqa: E402

pytestmark = pytest.mark.e2e

SDXL = of("sdxl", [], cfg_scale=4.0, negative_prompt="a dog")
STYLE = "a cat <lora:sdxl-kohya:0.8>"


@pytest.fixture
def neo(pictures):  # noqa: F811
    if pictures.server.ui.name != "Forge Neo":
        pytest.skip("Forge Neo alone reads such files")
    return pictures


def test_sdxl_is_served_with_an_adapter_and_goes_back_bit_for_bit(pictures):  # noqa: F811
    plain, base = pictures.both("a cat", **SDXL)
    assert rms(plain - base) <= 1e-3 * rms(plain)
    own, served = pictures.both(STYLE, **SDXL)
    assert agrees(own, served, plain)
    assert torch.equal(pictures("a cat", **SDXL), base)
    assert any(engine["family"] == "sdxl" for engine in pictures.engines()), pictures.engines()


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 2}, {"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, {"cfg_scale": 1.0}, {"prompt": "word " * 90 + STYLE},
        {"init_images": [noise_png(64)], "denoising_strength": 0.6}, {"width": 136, "height": 88},
    ],
    ids=["batch", "another sampler", "CFG 1", "long words", "img2img", "odd sizes"],
)  # fmt: skip
def test_sdxl_is_served_in_every_shape(pictures, changes):  # noqa: F811
    own, served = pictures.both(**{"prompt": STYLE, **SDXL, **changes})
    assert rms(own - served) <= 1e-3 * rms(own)


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_a_file_that_is_quantised_layer_by_layer_is_served_as_it_is(neo, kind):
    """Neo and the engine hold the file's own values; Neo may round what goes into a layer, too."""
    choices = of(f"flux-{kind}-layers", FLUX_PARTS, cfg_scale=1.0, distilled_cfg_scale=3.5)
    meant = neo("a cat", on=False, **DEV)
    own, served = neo.both("a cat", **choices)
    rounding = rms(own - meant)
    print(f"{kind}: rounding {rounding:.3g}, error {rms(own - served):.3g}")
    assert rounding > 0 and rms(own - served) <= (1e-3 if kind == "fp8" else 1.0) * rounding
    changed, engine = neo.both(DIFFUSERS, **choices)
    # Neo rounds what a LoRA makes of a weight to the file's numbers, as its author did the weights.
    assert rms(changed - own) > 4 * rounding and rms(engine - changed) <= 1.5 * rounding


def test_a_file_in_fp8_without_scales_is_told_from_one_that_neo_rounds(neo):
    choices = of("flux-fp8", FLUX_PARTS, cfg_scale=1.0, distilled_cfg_scale=3.5)
    own, here = neo(KOHYA, on=False, **choices), neo(KOHYA, **choices)
    last = neo.last_run
    print(last["served_by"], last["reason"])
    assert last["served_by"] == "local" and "stored as" in last["reason"] and "Low Bits" not in last["reason"]
    assert torch.equal(own, here)
