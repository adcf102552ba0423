"""Pictures of a real UI: its own path against the engine's, same seed, four Euler steps on CPU in fp32."""

from __future__ import annotations

import threading
import time

import pytest

torch = pytest.importorskip("torch")

from pictures import noise_png, payload, rms  # noqa: E402

pytestmark = pytest.mark.e2e

PROMPTS = {
    "one": "a cat <lora:style:0.8>",
    "one, negative": "a cat <lora:style:-0.6>",
    "two": "a cat <lora:style:0.8> <lora:kron:-0.3>",
    "text encoder and UNet apart": "a cat <lora:both:0.9:0.4>",
    "named strengths": "a cat <lora:both:te=0.2:unet=1.1>",
}
STYLE = PROMPTS["one"]


def agrees(own, served, plain) -> bool:
    """The error is small beside what the adapters change."""
    change = rms(own - plain)
    print(f"change {change:.3g}, error {rms(own - served):.3g}")
    return change > 0 and rms(own - served) <= 0.02 * change


def test_without_adapters_the_latents_agree(pictures):
    own, served = pictures.both("a cat")
    assert rms(own - served) <= 1e-3 * rms(own)


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_with_adapters_the_error_is_small_beside_what_they_change(pictures, prompt):
    plain = pictures("a cat", on=False)
    own, served = pictures.both(prompt)
    assert agrees(own, served, plain)


def test_only_the_unet_strength_goes_to_the_engine(pictures):
    pictures("a cat <lora:both:0.9:0.4> <lora:style:0.25>")
    assert pictures.view["stack"] == [["both", 0.4], ["style", 0.25]]


def test_back_to_no_adapter_is_bit_identical(pictures):
    first = pictures("a cat")
    pictures(PROMPTS["two"])
    assert torch.equal(pictures("a cat"), first)


def test_after_an_engine_served_the_ui_makes_its_own_picture_as_before(pictures):
    own = pictures(STYLE, on=False)
    for prompt in ("a cat", STYLE):
        pictures(prompt)
    assert torch.equal(pictures(STYLE, on=False), own)


def test_img2img_is_served(pictures):
    image = {"init_images": [noise_png(64)], "denoising_strength": 0.6}
    plain = pictures("a cat", on=False, **image)
    own, served = pictures.both(STYLE, **image)
    assert agrees(own, served, plain)


def test_the_hires_pass_is_served_too(pictures):
    hires = {
        "enable_hr": True,
        "hr_scale": 2,
        "hr_upscaler": "Latent",
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 3,
        **pictures.hires(),
    }
    plain = pictures("a cat", on=False, **hires)
    own, served = pictures.both(STYLE, **hires)
    assert agrees(own, served, plain)
    assert pictures.last_run["report"]["steps"] >= 3 and pictures.view["state"] != "fallback"


def test_batches_and_sizes_of_many_kinds_are_served(pictures):
    for changes in ({"batch_size": 3}, {"n_iter": 2}, {"cfg_scale": 1.0}, {"width": 128, "height": 80}, {"prompt": "word " * 90 + STYLE}):
        own, served = pictures.both(**{"prompt": STYLE, **changes})
        assert rms(own - served) <= 1e-3 * rms(own), changes


def test_a_size_that_halves_unevenly_is_served_where_the_ui_halves_as_an_engine_does(pictures):
    size = {"width": 128, "height": 72}
    own, here = pictures(STYLE, on=False, **size), pictures(STYLE, **size)
    if pictures.a1111:
        assert torch.equal(own, here) and "128 x 72" in pictures.view["line"]
    else:
        assert pictures.last_run["served_by"] == "engine" and rms(own - here) <= 1e-3 * rms(own)


@pytest.mark.parametrize("sampler", ["DDIM", "UniPC", "DPM++ 2M", "Euler a", "Heun", "LCM"])
def test_samplers_of_every_make_are_served(pictures, sampler):
    own, served = pictures.both(STYLE, sampler_name=sampler)
    assert rms(own - served) <= 1e-3 * rms(own)


KINDS = ["loha", "full", "cp", "dora-inputs", "dora-outputs", "glora", "oft", "oft-bounded", "oft-old", "boft", "ia3", "norms", "peft"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_any_kind_gives_the_uis_own_picture(pictures, kind):
    """On an engine where both read the kind alike, in the UI where they do not."""
    plain = pictures("a cat", on=False)
    own, here = pictures(f"a cat <lora:{kind}:0.7>", on=False), pictures(f"a cat <lora:{kind}:0.7>")
    by = pictures.last_run["served_by"]
    print(f"{kind}: {by}, change {rms(own - plain):.3g}, error {rms(own - here):.3g}; {pictures.view['line']}")
    if by == "engine":
        assert rms(own - here) <= max(0.02 * rms(own - plain), 1e-4 * rms(plain))
    else:
        assert torch.equal(own, here)


@pytest.mark.parametrize(
    "prompt",
    ["a cat <lora:Tusche 墨 (v2):0.8>", "a cat <lora:style:0.3> and again <lora:style:0.5>", "a cat <lora:style:0.5> <lora:style:0.5>", "a cat <lora:style:0> <lora:kron:0.4>",
     "a [cat:dog:0.5] <lora:style:0.8> AND a [(bird:1.2)|fish]", "a cat <lora:nobody:1> <lora:style:0.8>", "[a cat <lora:style:0.8>:0.5]"],
)  # fmt: skip
def test_prompts_of_every_spelling_are_read_as_the_ui_reads_them(pictures, prompt):
    own, served = pictures.both(prompt)
    assert rms(own - served) <= 1e-3 * rms(own)


def test_different_prompts_in_one_batch_are_served(pictures):
    script = {
        "script_name": "prompts from file or textbox",
        "script_args": [False, False, "start", f"a dog {STYLE}\na bird <lora:kron:0.5>"],
    }
    pictures("a cat", on=False, **script)
    own = pictures.latents()
    pictures("a cat", **script)
    for one, other in zip(own, pictures.latents(), strict=True):
        assert rms(one - other) <= 1e-3 * rms(one)
    assert pictures.last_run["served_by"] == "engine"


def test_another_checkpoint_within_the_picture_is_served_too(pictures):
    """A refiner takes over in the middle; the picture after it begins with the first checkpoint again."""
    refiner = {"refiner_checkpoint": "other", "refiner_switch_at": 0.5, "n_iter": 2, "steps": 6}
    pictures(STYLE, on=False, **refiner)
    own = pictures.latents()
    pictures(STYLE, **refiner)
    assert pictures.last_run["served_by"] == "engine" and pictures.view["state"] != "fallback"
    served = pictures.latents()
    # Neo hands over late, so that the refiner changes 0.2 % of these pictures.
    change = rms(own[0] - pictures(STYLE, on=False, steps=6))
    assert change > 1e-3 * rms(own[0])
    for one, other in zip(own, served, strict=True):
        assert rms(one - other) <= min(1e-3 * rms(one), 0.05 * change)


def test_tiling_is_the_uis_own_work(pictures):
    own, here = pictures(STYLE, on=False, tiling=True), pictures(STYLE, tiling=True)
    assert torch.equal(own, here) or rms(own - here) <= 1e-3 * rms(own)


def test_another_checkpoint_of_the_structure_uses_the_same_engine(pictures):
    pictures("a cat")
    before = [engine["id"] for engine in pictures.engines()]
    pictures.server.call("/sdapi/v1/options", {"sd_model_checkpoint": "other"})
    try:
        own, served = pictures.both(STYLE)
    finally:
        pictures.server.call("/sdapi/v1/options", {"sd_model_checkpoint": "tiny"})
    assert rms(own - served) <= 1e-3 * rms(own)
    assert [engine["id"] for engine in pictures.engines()] == before


def test_an_xyz_plot_over_strengths_refits_per_cell_and_loads_nothing_again(pictures):
    pictures(STYLE)
    engines, refits = [engine["id"] for engine in pictures.engines()], pictures.refits()
    axes = [pictures.server.ui.prompt_sr, "0.8,0.3,-0.5", [], 0, "", [], 0, "", []]
    plot = {"script_name": "x/y/z plot", "script_args": [*axes, *pictures.server.ui.grid]}
    pictures("a cat <lora:style:0.8>", **plot)
    cells = pictures.latents()
    assert len(cells) == 3
    assert [engine["id"] for engine in pictures.engines()] == engines and pictures.refits() - refits == 2
    for strength, cell in zip(("0.8", "0.3", "-0.5"), cells, strict=True):
        own = pictures(f"a cat <lora:style:{strength}>", on=False)
        assert rms(own - cell) <= 1e-3 * rms(own), strength


def wait_for_lease(pictures) -> None:
    deadline = time.monotonic() + 120
    while not any(engine["leases"] for engine in pictures.engines()):
        assert time.monotonic() < deadline, "no picture came to the engine"
        time.sleep(0.02)


@pytest.mark.parametrize("button", ["interrupt", "skip"])
def test_a_pressed_button_gives_the_ui_back_at_once_and_the_next_picture_is_right(pictures, button):
    expected = pictures("a cat")
    pictures.order()
    long = threading.Thread(target=pictures.server.call, args=("/sdapi/v1/txt2img", payload("a cat", width=384, height=384, steps=40)))
    long.start()
    wait_for_lease(pictures)
    time.sleep(1.0)
    pressed = time.time()
    pictures.server.call(f"/sdapi/v1/{button}", {})
    long.join()
    took = pictures.seen["sampled_at"] - pressed
    print(f"{button}: sampling ended after {took * 1000:.0f} ms")
    # 100 ms for the plugin; the rest is a busy test machine. Forty steps would take a minute.
    assert 0 <= took < 2.0
    assert pictures.last_run["report"]["steps"] < 40
    assert torch.equal(pictures("a cat"), expected) and pictures.last_run["served_by"] == "engine"


def test_without_a_sidecar_the_picture_is_exactly_the_uis_own(pictures, sidecar):
    own = pictures(STYLE, on=False)
    sidecar.kill()
    try:
        local = pictures(STYLE)
        assert torch.equal(own, local)
        assert pictures.view["state"] == "fallback" and "runs in" in pictures.view["line"] and pictures.last_run["served_by"] == "local"
    finally:
        sidecar.start()
    served_again(pictures)


def test_a_sidecar_that_dies_during_a_picture_ends_in_the_uis_own_path(pictures, sidecar):
    size = {"width": 192, "height": 192, "steps": 12}
    own = pictures(STYLE, on=False, **size)
    plain = pictures("a cat", on=False, **size)
    pictures(STYLE)

    def kill_when_running():
        wait_for_lease(pictures)
        sidecar.kill()

    killer = threading.Thread(target=kill_when_running)
    killer.start()
    try:
        mixed = pictures(STYLE, **size)
        assert agrees(own, mixed, plain)
        assert pictures.last_run["served_by"] == "local" and pictures.view["state"] == "fallback"
    finally:
        killer.join()
        sidecar.start()
    served_again(pictures)


def served_again(pictures) -> None:
    """Without a restart of the UI."""
    deadline = time.monotonic() + 60
    while pictures.facts["connection"]["state"] != "connected":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    own, served = pictures.both(STYLE)
    assert rms(own - served) <= 1e-3 * rms(own)


def test_block_weights_of_another_extension_stay_in_the_ui(pictures):
    tagged = "a cat <lora:style:0.8:lbw=IN02>"
    own, local = pictures(tagged, on=False), pictures(tagged)
    assert torch.equal(own, local)
    assert "lbw=" in pictures.view["line"] and pictures.view["state"] == "fallback"


def forge_only(pictures) -> None:
    if pictures.a1111:
        pytest.skip("A1111 has no patchers that another extension could change")


@pytest.mark.parametrize(
    "obstacle",
    [
        {"before": "half the patches"},
        {"before": "wrapper"},
        {"after": "wrapper"},
        {"before": "attention patch"},
        {"after": "attention patch"},
    ],
    ids=str,
)
def test_what_another_extension_does_to_the_model_is_exactly_forges_own_result(pictures, obstacle):
    forge_only(pictures)
    own = pictures(STYLE, on=False, orders=obstacle)
    local = pictures(STYLE, orders=obstacle)
    assert torch.equal(own, local)
    assert pictures.view["state"] == "fallback", pictures.view


@pytest.mark.parametrize("place", ["before", "after"])
def test_controlnet_residuals_are_served(pictures, place):
    forge_only(pictures)
    plain = pictures(STYLE, on=False)
    own, served = pictures.both(STYLE, orders={place: "control"})
    assert agrees(own, served, plain)


def test_the_uis_own_model_gets_no_adapters_while_an_engine_serves(pictures):
    """On a GPU its weights would also rest in main memory; where they are loaded is decided by the same patcher."""
    pictures(STYLE)
    if pictures.a1111:
        assert pictures.seen["unet"] == "EngineUnet"
        pictures(STYLE, on=False)
        assert pictures.seen["unet"] == "NoneType"
    else:
        assert pictures.seen["wrapped"] and pictures.seen["merged"] == 0
        pictures(STYLE, on=False)
        assert not pictures.seen["wrapped"] and pictures.seen["merged"] > 0
