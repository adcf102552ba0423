"""A real UI's own extensions, settings and inpainting: served where the engine's picture is the same, the UI's own picture where not."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from pictures import noise_png, rms  # noqa: E402

pytestmark = pytest.mark.e2e

STYLE = "a cat <lora:style:0.8>"
# Arguments of always-visible scripts, and whether an engine serves with them.
FORGE = {
    "FreeU Integrated (SD 1.x, SD 2.x, SDXL)": ([True, 1.3, 1.4, 0.9, 0.2, 0.0, 1.0], False),
    "SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)": ([True, 0.5, 2.0, 1.0], False),
    "PerturbedAttentionGuidance Integrated": ([True, 3.0, 0.0, 0.0, 1.0], False),
    "Kohya HRFix Integrated": ([True, 1, 2.0, 0.0, 0.5, True, "bicubic", "bicubic"], False),
    "StyleAlign Integrated": ([True, 1.0], False),
    "MultiDiffusion Integrated": ([True, "MultiDiffusion", 64, 64, 0, 4], False),
    "DynamicThresholding (CFG-Fix) Integrated": (
        [True, 7.0, 1.0, "Constant", 0.0, "Constant", 0.0, 1.0, "enable", "MEAN", "AD", 1.0],
        True,
    ),
}
A1111 = {
    "hypertile": ({"hypertile_enable_unet": True, "hypertile_max_depth_unet": 0, "hypertile_max_tile_unet": 32}, False),
    "token merging": ({"token_merging_ratio": 0.5}, False),
    "old method for LoRAs": ({"lora_functional": True}, False),
    "another way to batch": ({"batch_cond_uncond": False, "pad_cond_uncond": True}, True),
    "no SD Unet": ({"sd_unet": "None"}, False),
    "this SD Unet by name": ({"sd_unet": "[Refit] tiny"}, True),
}


# A1111 restores only what its configuration names after a picture; each case says all.
RESTING = {
    "hypertile_enable_unet": False,
    "token_merging_ratio": 0,
    "lora_functional": False,
    "batch_cond_uncond": True,
    "pad_cond_uncond": False,
    "sd_unet": "Automatic",
}


def both_ways(pictures, serves: bool, **changes) -> None:
    own, here = pictures(STYLE, on=False, **changes), pictures(STYLE, **changes)
    by, line = pictures.last_run["served_by"], pictures.view["line"]
    print(f"{by}, error {rms(own - here):.3g} of {rms(own):.3g}; {line}")
    assert (by == "engine") == serves, line
    assert rms(own - here) <= 1e-3 * rms(own)


@pytest.mark.parametrize("title", FORGE)
def test_forges_own_extensions(pictures, title):
    if pictures.server.ui.name != "Forge":
        pytest.skip("an extension of Forge")
    args, serves = FORGE[title]
    both_ways(pictures, serves, scripts={title: args})


@pytest.mark.parametrize("setting", A1111)
def test_a1111s_own_settings(pictures, setting):
    if not pictures.a1111:
        pytest.skip("a setting of A1111")
    options, serves = A1111[setting]
    both_ways(pictures, serves, override_settings={**RESTING, **options})
    pictures("a cat", override_settings=RESTING)


@pytest.mark.parametrize("checkpoint", ["tiny", "with-mask"])
def test_inpainting_is_served_with_any_checkpoint(pictures, checkpoint):
    image = {
        "init_images": [noise_png(64)],
        "mask": noise_png(64),
        "denoising_strength": 0.8,
        "inpainting_fill": 1,
        "override_settings": {"sd_model_checkpoint": checkpoint},
    }
    own, served = pictures.both(STYLE, **image)
    assert rms(own - served) <= 1e-3 * rms(own)


def test_an_inpainting_checkpoint_serves_text_to_image_too(pictures):
    own, served = pictures.both(STYLE, override_settings={"sd_model_checkpoint": "with-mask"})
    assert rms(own - served) <= 1e-3 * rms(own)


def test_another_vae_changes_nothing_at_the_engine(pictures):
    pictures(STYLE)
    before = pictures.refits()
    own, served = pictures.both(STYLE, override_settings={"sd_vae": "None"})
    assert rms(own - served) <= 1e-3 * rms(own) and pictures.refits() == before
