"""Families that the torch host serves without a graph, in a real ComfyUI: the stock workflow of a file in diffusion_models, served by the engine.

The files are narrow relatives with the names of the real ones; a node of the tests tells ComfyUI's detection their widths.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfy_run import Run, rms
from family_workflows import WORKFLOWS, masked, skip_where_unknown
from graphs import OWN_LOADER, graph, node
from graphs import loader as model_loader
from narrow_models import comfyui_with, torch_sidecar, write_narrow
from refit_sidecar_plugin.client import SidecarClient

PAIR = ("wan22-a14b", "wan22-a14b-low")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return write_narrow(tmp_path_factory.mktemp("families"), {*WORKFLOWS, *PAIR})


@pytest.fixture(scope="module")
def own_sidecar(models):
    with torch_sidecar(models) as made:
        yield made


@pytest.fixture(scope="module")
def server(own_sidecar):
    with comfyui_with(own_sidecar) as made:
        yield made


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_stock_workflow_with_a_lora_is_served_by_the_engine(server, tmp_path, name):
    skip_where_unknown(name)
    run, plain = Run(server, tmp_path), replace(WORKFLOWS[name], checkpoint=f"{name}.safetensors")
    with_adapter = replace(plain, adapters=[(f"{name}-1.safetensors", 0.8)])
    own_base, base = run.both(plain)
    own, served = run.both(with_adapter)
    effect = rms(own - own_base)
    assert effect > 0 and torch.isfinite(own).all()
    assert rms(base - own_base) < 0.01 * effect
    assert rms(served - own) < 0.01 * effect
    assert torch.equal(run(replace(plain, loader="RefitLoadEngine", seed=plain.seed)), base)


def test_masked_words_that_an_engine_does_not_take_are_left_to_comfyui(server, tmp_path):
    """Lumina 2: ComfyUI 0.3.64 looks at the mask, 0.33 does not. One part: 0.3.64 on a CPU fails with masks of two."""
    plain = replace(WORKFLOWS["lumina2"], checkpoint="lumina2.safetensors", cfg=1.0)
    run, choices = Run(server, tmp_path), replace(plain, positive=masked(13))
    own, got = run(replace(choices, loader=OWN_LOADER)), run(replace(choices, loader="RefitLoadEngine"))
    assert run.last_run["served_by"] != "engine" and "attention_mask" in run.last_run["reason"]
    assert torch.equal(own, got)


def pair(out: Path, loader: str, adapters: bool) -> dict:
    """Two steps on the model for much noise, two on the one for little, each with a LoRA of its own."""
    plain = replace(WORKFLOWS[PAIR[0]], folder="diffusion_models", loader=loader, checkpoint=f"{PAIR[0]}.safetensors")
    nodes = graph(out, plain)
    sampler = nodes.pop("sample")["inputs"]
    for number, name in enumerate(PAIR):
        nodes[f"load{number}"] = model_loader(replace(plain, checkpoint=f"{name}.safetensors"))
        model = [f"load{number}", 0]
        if adapters:
            nodes[f"lora{number}"] = node("LoraLoaderModelOnly", model=model, lora_name=f"{name}-1.safetensors", strength_model=0.8)
            model = [f"lora{number}", 0]
        nodes[f"sample{number}"] = node(
            "KSamplerAdvanced", model=model, add_noise="disable" if number else "enable", noise_seed=5, steps=4, cfg=5.0, sampler_name="euler",
            scheduler="normal", positive=sampler["positive"], negative=sampler["negative"], latent_image=["sample0", 0] if number else ["empty", 0],
            start_at_step=2 * number, end_at_step=2 * (number + 1), return_with_leftover_noise="disable" if number else "enable",
        )  # fmt: skip
    for name in ("save", "status"):
        inputs = nodes[name]["inputs"]
        nodes[name]["inputs"] = {key: ["sample1", 0] if value == ["sample", 0] else value for key, value in inputs.items()}
    del nodes["load"]
    return nodes


def test_the_pair_of_models_of_one_structure_is_two_states_of_one_engine(server, own_sidecar, tmp_path):
    run = Run(server, tmp_path)

    def made(loader: str, adapters: bool) -> torch.Tensor:
        file = run.next_file()
        run.outputs = server.prompt(pair(file, loader, adapters), run.PATIENCE_S)["outputs"]
        return torch.load(file)

    own_base, own = made(OWN_LOADER, False), made(OWN_LOADER, True)
    base = made("RefitLoadEngine", False)
    run.assert_served()
    client = SidecarClient("test", "0", data_dir=own_sidecar.data)
    try:
        before = client.call("status", {}).result["totals"]
        served = made("RefitLoadEngine", True)
        run.assert_served()
        after = client.call("status", {}).result["totals"]
    finally:
        client.close()
    assert rms(served - own) < 0.01 * rms(own - own_base)
    assert torch.equal(made("RefitLoadEngine", False), base)
    assert after["engineBuilds"] == before["engineBuilds"] and after["refits"] >= before["refits"] + 2
