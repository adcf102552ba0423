"""Nodes that need the model's weights or layers, behind Load Engine: each asserts who served, and that the picture is ComfyUI's own."""

import json
import os
from pathlib import Path

import pytest
import torch
from comfy_server import make_models
from graphs import Choices, node

STYLE = [("style.safetensors", 0.8)]
OWN = "CheckpointLoaderSimple"
NEWER = "the node came with a later ComfyUI than this one"


def behind(name, **inputs):
    """The MODEL with this node behind it."""

    def change(nodes, link):
        nodes["between"] = node(name, model=link, **inputs)
        return ["between", 0]

    return change


def merged(loader):
    def change(nodes, link):
        nodes["other"] = node(loader, ckpt_name="sd15_other.safetensors")
        nodes["merged"] = node("ModelMergeSimple", model1=link, model2=["other", 0], ratio=0.6)
        return ["merged", 0]

    return change


def has(run, name) -> bool:
    return bool(run.server.call(f"/object_info/{name}"))


def local(run, choices, model, own_model=None):
    """Own and Load Engine's latent; the second must have run in ComfyUI. Returns the reason."""
    own = run(Choices(**choices, loader=OWN, model=own_model or model))
    ours = run(Choices(**choices, model=model))
    assert torch.equal(own, ours)
    last = run.last_run
    assert last["served_by"] == "local", last
    return last["reason"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (behind("TestInjection"), "changes the model's layers while it runs (test)"),
        (behind("TestObjectPatch"), "HalfLayer, which replaces a part of the model (diffusion_model.time_embed)"),
        (behind("TestReadBlocks"), "a node that reaches into the model (input_blocks)"),
        (behind("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2), "FreeU_V2, which acts inside the model"),
    ],
    ids=["injection", "object patch", "wrapper that reads blocks", "FreeU"],
)
def test_what_acts_inside_the_model_is_named_and_runs_in_comfyui(run, model, reason):
    plain = run(Choices(loader=OWN, adapters=STYLE))
    assert reason in local(run, {"adapters": STYLE}, model)
    # The next picture without the node is on the engine again, and right.
    served = run(Choices(adapters=STYLE, seed=5))
    run.assert_served()
    assert (served - plain).abs().max() <= 1e-3 * plain.abs().max()


@pytest.mark.parametrize("model", [behind("TestInjection"), behind("TestObjectPatch")], ids=["injection", "object patch"])
def test_accelerate_model_leaves_it_to_comfyui_too(run, model):
    def accelerated(nodes, link):
        nodes["fast"] = node("RefitAccelerateModel", model=link)
        return model(nodes, ["fast", 0])

    own = run(Choices(loader=OWN, adapters=STYLE, model=model))
    assert torch.equal(own, run(Choices(loader=OWN, adapters=STYLE, model=accelerated)))
    assert run.last_run["served_by"] == "local"


def test_a_layer_that_was_changed_in_place_is_never_left_out(run):
    changed = local(run, {"checkpoint": "sd15_inpaint.safetensors"}, behind("TestChangeInPlace"))
    assert "changed the model itself (middle_block)" in changed


def test_a_copy_for_another_device_has_weights_of_its_own_and_runs_in_comfyui(run):
    """ComfyUI 0.33 has the loader make it (`cached_patcher_init`); with its LoRAs, and without a word of the weightless model."""
    if run.server.comfyui_version < (0, 33):
        pytest.skip(NEWER)
    reason = local(run, {"adapters": STYLE}, behind("TestCopyForDevice"))
    assert reason.startswith("a copy of the model for another device, which has weights of its own")


def test_merges_take_the_weights_of_either_loader(run):
    reason = local(run, {"adapters": STYLE}, merged("RefitLoadEngine"), merged(OWN))
    assert "model merge" in reason
    # A merge leaves the loaders' own MODELs on the engine.
    run(Choices(adapters=STYLE, seed=6))
    run.assert_served()


def saved(base: Path, prefix: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (file,) = sorted((base / "output").rglob(f"{prefix}_*.safetensors"), key=os.path.getmtime)[-1:]
    return load_file(file)


@pytest.mark.parametrize("kind", ["ModelSave", "CheckpointSave", "LoraSave"])
def test_saving_and_extracting_write_what_comfyui_would(run, base, kind):
    files = []
    for loader in (OWN, "RefitLoadEngine"):
        prefix = f"{kind}-{loader}"
        nodes = {
            "one": node(loader, ckpt_name="sd15_tiny.safetensors"),
            "lora": node("LoraLoaderModelOnly", model=["one", 0], lora_name="style.safetensors", strength_model=0.8),
            "other": node(loader, ckpt_name="sd15_other.safetensors"),
            "difference": node("ModelMergeSubtract", model1=["lora", 0], model2=["other", 0], multiplier=1.0),
        }
        if kind != "LoraSave":
            parts = {"clip": ["one", 1], "vae": ["one", 2]} if kind == "CheckpointSave" else {}
            nodes = {key: nodes[key] for key in ("one", "lora")} | {"save": node(kind, model=["lora", 0], filename_prefix=prefix, **parts)}
        else:
            nodes["save"] = node(
                "LoraSave", filename_prefix=prefix, rank=4, lora_type="full_diff", bias_diff=False, model_diff=["difference", 0]
            )
        run.server.prompt(nodes, run.PATIENCE_S)
        files.append(saved(base, prefix))
    own, ours = files
    assert own and own.keys() == ours.keys()
    assert all(torch.equal(own[name], ours[name]) for name in own)


@pytest.mark.parametrize("name", ["EasyCache", "LazyCache"])
def test_caches_that_only_leave_out_calls_stay_on_the_engine(run, relative, name):
    cache = behind(name, reuse_threshold=0.2, start_percent=0.1, end_percent=0.95, verbose=False)
    own = run(Choices(loader=OWN, steps=8, model=cache))
    served = run(Choices(steps=8, model=cache))
    run.assert_served()
    assert relative(own, served) <= 1e-3


def test_a_compiled_model_is_served_there_is_nothing_to_compile_on_this_side(run, relative):
    """The server does not compile (TORCHDYNAMO_DISABLE), which takes minutes; the node's wrapper is there all the same."""
    compiled = behind("TorchCompileModel", backend="inductor")
    own = run(Choices(loader=OWN, adapters=STYLE, model=compiled))
    served = run(Choices(adapters=STYLE, model=compiled))
    run.assert_served()
    assert relative(own, served) <= 1e-3


def test_a_class_without_an_engine_here_is_comfyuis_own_model_from_the_same_node(run, base):
    make_models(base / "models", "vace_tiny")

    def video(nodes, link):
        nodes["empty"] = node("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)
        return link

    choices = {"checkpoint": "vace_tiny.safetensors", "folder": "diffusion_models", "channels": 16, "context": 4096, "tokens": 20}
    reason = local(run, {**choices, "latent": video}, lambda nodes, link: link)
    assert "served by the torch host alone" in reason, reason


def test_a_structure_whose_graph_cannot_be_made_is_tried_once_and_runs_in_comfyui(run, base, sidecar):
    """Nothing of the exporter's failure is paid again: it is known from the file's structure."""
    from safetensors.torch import load_file, save_file

    checkpoints = base / "models" / "checkpoints"
    tensors = load_file(checkpoints / "sd15_tiny.safetensors")
    # ComfyUI passes over a name that its class does not have; the exporter has no network with it.
    tensors["model.diffusion_model.strange.weight"] = torch.zeros(3, 3)
    save_file(tensors, checkpoints / "odd.safetensors")
    choices = {"checkpoint": "odd.safetensors"}
    try:
        first = local(run, choices, lambda nodes, link: link)
        failed = json.loads((sidecar.data / "failed-graphs.json").read_text().split("\n", 1)[1])
        jobs = [job for job in run.server.call("/refit/read/jobs.list")["jobs"] if job["kind"] == "graph" and job["state"] == "failed"]
        second = local(run, {**choices, "seed": 6}, lambda nodes, link: link)
        after = [job for job in run.server.call("/refit/read/jobs.list")["jobs"] if job["kind"] == "graph" and job["state"] == "failed"]
        assert len(failed) == 1 and len(jobs) == len(after) == 1, (first, second)
    finally:
        (checkpoints / "odd.safetensors").unlink()


def test_a_bypass_lora_is_the_adapter_that_it_is(run, relative):
    if not has(run, "LoraLoaderBypassModelOnly"):
        pytest.skip(f"LoraLoaderBypassModelOnly: {NEWER}")
    bypass = behind("LoraLoaderBypassModelOnly", lora_name="style.safetensors", strength_model=0.8)
    plain = run(Choices(loader=OWN))
    own = run(Choices(loader=OWN, model=bypass))
    assert relative(plain, own) > 1e-3
    for choices in (Choices(model=bypass), Choices(loader=OWN, model=accelerated_then(bypass))):
        served = run(choices)
        run.assert_served()
        assert relative(own, served) <= 1e-3


def accelerated_then(model):
    def change(nodes, link):
        nodes["fast"] = node("RefitAccelerateModel", model=link)
        return model(nodes, ["fast", 0])

    return change


def test_a_file_that_nobody_can_load_says_so_in_comfyuis_own_words(run, base):
    broken = base / "models" / "checkpoints" / "broken.safetensors"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(AssertionError) as raised:
        run(Choices(checkpoint="broken.safetensors"))
    assert "RefitLoadEngine" in str(raised.value) and "RemoteDenoiser" not in str(raised.value)
    broken.unlink()
