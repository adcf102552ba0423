"""Latents of an engine against ComfyUI's own path: same seed, four Euler steps, fp32."""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from comfy_run import Run
from graphs import Choices, node

STACKS = {
    "one": [("style.safetensors", 0.8)],
    "one, negative": [("style.safetensors", -0.6)],
    "three kinds": [("style.safetensors", 0.8), ("kron.safetensors", -0.3), ("hada.safetensors", 1.0)],
    "three kinds, other strengths": [("style.safetensors", 0.2), ("kron.safetensors", 0.5), ("hada.safetensors", -1.5)],
    "full weights and a subfolder": [
        ("style-twin.safetensors", 0.8),
        ("full.safetensors", 0.5),
        (os.path.join("sub dir", "ünï style.safetensors"), 1.5),
    ],
    "one file twice": [("style.safetensors", 0.5), ("style.safetensors", 0.25)],
}


@pytest.fixture(scope="module")
def plain(comfy, tmp_path_factory):
    return Run(comfy, tmp_path_factory.mktemp("plain"))(Choices(loader="CheckpointLoaderSimple"))


def test_without_adapters_the_latents_agree(run, relative):
    own, served = run.both(Choices())
    assert relative(own, served) <= 1e-3


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_with_adapters_the_error_is_small_beside_what_they_change(run, plain, stack):
    own, served = run.both(Choices(adapters=stack))
    change = (own - plain).double().pow(2).mean().sqrt()
    error = (own - served).double().pow(2).mean().sqrt()
    assert change > 0 and error <= 0.01 * change


def test_back_to_none_is_bit_identical(run):
    first = run(Choices())
    run(Choices(adapters=STACKS["three kinds"]))
    again = run(Choices(seed=6))
    assert torch.equal(run(Choices()), first) and not torch.equal(again, first)


def test_files_that_differ_in_one_tensor_are_told_apart(run):
    one = run(Choices(adapters=[("style.safetensors", 0.8)]))
    twin_own, twin = run.both(Choices(adapters=[("style-twin.safetensors", 0.8)]))
    assert not torch.equal(one, twin)
    assert (twin_own - twin).abs().max() < (one - twin).abs().max() / 20


def test_a_lora_that_only_a_foreign_loader_can_name_travels_by_content(run, plain):
    """A block filter changes the patches, so that no file explains them any more."""

    def filtered(nodes, link):
        nodes["filter"] = node("TestDropPatches", model=link, keep_every=2)
        return ["filter", 0]

    own, served = run.both(Choices(adapters=[("style.safetensors", 0.9)], model=filtered))
    change = (own - plain).double().pow(2).mean().sqrt()
    assert (own - served).double().pow(2).mean().sqrt() <= 0.01 * change


def test_a_model_of_sdxls_class_is_served_with_its_pooled_text_and_sizes(run, relative):
    xl = {"checkpoint": "vega_tiny.safetensors", "context": 2048, "pooled": 1280, "size": 128}
    own, served = run.both(Choices(**xl))
    assert relative(own, served) <= 1e-3
    plain = own
    own, served = run.both(Choices(**xl, adapters=[("vega.safetensors", 0.7)]))
    change = (own - plain).double().pow(2).mean().sqrt()
    assert change > 0 and (own - served).double().pow(2).mean().sqrt() <= 0.01 * change


SD3 = Choices(checkpoint="sd3_tiny.safetensors", folder="diffusion_models", channels=16, context=4096, pooled=2048, size=128)
FLUX = replace(SD3, checkpoint="flux_tiny.safetensors", pooled=768, cfg=1.0, steps=2)
SCHNELL = replace(FLUX, checkpoint="schnell_tiny.safetensors")


@pytest.mark.parametrize(
    ("choices", "adapters"),
    [
        (SD3, ["sd3-diffusers"]),
        (FLUX, ["flux-kohya"]),
        (FLUX, ["flux-diffusers"]),
        (FLUX, ["flux-kohya", "flux-diffusers"]),
        (SCHNELL, ["flux-diffusers"]),
    ],
    ids=["SD3, diffusers", "Flux, kohya", "Flux, diffusers", "Flux, both", "Flux schnell"],
)
def test_a_transformer_is_served_with_adapters_in_every_spelling(run, transformers, relative, choices, adapters):
    """Spelled as diffusers does, q, k and v are three patches on rows of one weight; schnell has no input for the guidance that ComfyUI always gives."""
    plain, plain_served = run.both(choices)
    assert relative(plain, plain_served) <= 1e-3
    own, served = run.both(replace(choices, adapters=[(f"{name}.safetensors", 0.7) for name in adapters]))
    change = (own - plain).double().pow(2).mean().sqrt()
    assert change > 0 and (own - served).double().pow(2).mean().sqrt() <= 0.01 * change


@pytest.mark.parametrize("choices", [SD3, FLUX], ids=["SD3", "Flux"])
def test_a_transformer_is_served_at_sizes_that_are_no_whole_patches(run, transformers, relative, choices):
    own, served = run.both(replace(choices, size=72))
    assert relative(own, served) <= 1e-3


def test_a_file_with_names_of_two_families_changes_what_comfyui_changes(run, transformers):
    """Since 0.33 ComfyUI takes Flux.2's names on a Flux.1 model, the file is named for Flux.2, and no checkpoint of that family is there: it is read on demand.
    An earlier ComfyUI passes some of its layers over, which is told instead of drawn.
    """
    plain, _ = run.both(FLUX)
    choices = replace(FLUX, adapters=[("flux-two-families.safetensors", 0.7)])
    own, served = (run(replace(choices, loader=loader)) for loader in ("CheckpointLoaderSimple", "RefitLoadEngine"))
    last = run.last_run
    if run.server.comfyui_version < (0, 33):
        assert last["served_by"] == "local" and "changes other layers in this UI" in last["reason"], last
    else:
        assert last["served_by"] == "engine", last
    change = (own - plain).double().pow(2).mean().sqrt()
    assert change > 0 and (own - served).double().pow(2).mean().sqrt() <= 0.01 * change


def test_an_adapter_of_another_family_is_told(run, transformers):
    """Of one some layers happen to fit, of the other none does."""
    told = "{} was made for {}; sd15_tiny.safetensors is sd15".format
    part = told("vega.safetensors", "sdxl") + ", and only layers that happen to fit are used"
    run(Choices(adapters=[("vega.safetensors", 1.0), ("style.safetensors", 0.8)]))
    run.assert_served()
    assert run.last_run["report"]["other_family"] == [part]
    assert f"For another model: {part}" in run.status
    run(Choices(adapters=[("flux-kohya.safetensors", 1.0), ("vega.safetensors", 0.5), ("style.safetensors", 0.8)]))
    run.assert_served()
    assert sorted(run.last_run["report"]["other_family"]) == [told("flux-kohya.safetensors", "flux"), part]
    run(Choices(adapters=[("style.safetensors", 0.8)], seed=8))
    assert run.last_run["report"]["other_family"] == []


def test_another_checkpoint_of_the_structure_uses_the_same_engine(run, relative):
    own, served = run.both(Choices(checkpoint="sd15_other.safetensors", adapters=STACKS["one"]))
    assert relative(own, served) <= 1e-3
    run(Choices())
    engines = run.server.call("/refit/read/engine.list")["engines"]
    assert len(engines) == len({engine["structure"] for engine in engines}), engines


def test_a_file_that_is_rewritten_on_disk_is_used_from_the_next_prompt_on(run, base, relative):
    """ComfyUI's own loader keeps the old content; the engine, and the fallback, use the file as it is now."""
    loras = base / "models" / "loras"
    shutil.copy(loras / "style.safetensors", loras / "changing.safetensors")
    choices = Choices(adapters=[("changing.safetensors", 0.8)])
    before = run(choices)
    assert torch.equal(before, run(Choices(adapters=[("style.safetensors", 0.8)])))
    shutil.copy(loras / "kron.safetensors", loras / "changing.tmp")
    os.replace(loras / "changing.tmp", loras / "changing.safetensors")
    after = run(choices)
    run.assert_served()
    assert torch.equal(after, run(Choices(adapters=[("kron.safetensors", 0.8)]))) and not torch.equal(before, after)


def test_loader_nodes_of_the_pack_apply_adapters_like_the_core_nodes(run):
    expected = run(Choices(adapters=[("style.safetensors", 0.8), ("kron.safetensors", -0.3)]))

    def stacked(nodes, _):
        nodes["s1"] = node("RefitLoraStack", lora_name="style.safetensors", strength=0.8)
        nodes["s2"] = node("RefitLoraStack", lora_name="kron.safetensors", strength=-0.3, lora_stack=["s1", 0])
        nodes["stacked"] = node("RefitLoadEngineStacked", ckpt_name="sd15_tiny.safetensors", lora_stack=["s2", 0])
        return ["stacked", 0]

    def single(nodes, _):
        nodes["single"] = node("RefitLoadEngineLora", ckpt_name="sd15_tiny.safetensors", lora_name="style.safetensors", strength=0.8)
        nodes["more"] = node("LoraLoaderModelOnly", model=["single", 0], lora_name="kron.safetensors", strength_model=-0.3)
        return ["more", 0]

    assert torch.equal(run(Choices(model=stacked)), expected)
    assert torch.equal(run(Choices(model=single)), expected)


def test_an_exported_lora_acts_like_the_original_at_its_strength(run, relative):
    expected = run(Choices(adapters=[("style.safetensors", 0.5)]))
    export = node("RefitExportLora", ckpt_name="sd15_tiny.safetensors", lora_name="style.safetensors", strength=0.5, name="half style")
    outputs = run.server.prompt({"export": export})["outputs"]
    assert outputs["export"]["text"] == ["Saved half style.safetensors: 56 layers of sd15_tiny.safetensors, strength 0.5 built in."]
    exported = run(Choices(adapters=[("half style.safetensors", 1.0)]))
    # The exported factors are rounded to the file's 16 bits once more.
    assert relative(expected, exported) < 1e-3
