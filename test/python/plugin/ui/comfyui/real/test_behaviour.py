"""What happens when something is in the way: patches an engine cannot do, interrupts, a sidecar that dies, little memory."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from comfy_run import Run
from comfy_server import REPO, ComfyServer
from graphs import Choices, graph, node
from safetensors.torch import load_file, save_file
from sidecar_process import server_environment

STYLE = [("style.safetensors", 0.8)]


def attention_patch(nodes, link):
    nodes["patch"] = node("TestAttentionPatch", model=link, scale=0.5)
    return ["patch", 0]


def hook_lora(nodes, link):
    nodes["hook"] = node("CreateHookLoraModelOnly", lora_name="kron.safetensors", strength_model=0.7)
    pair = {"positive_NEW": link, "negative_NEW": ["neg", 0]}
    nodes["hooked"] = node("PairConditioningSetProperties", **pair, strength=1.0, set_cond_area="default", hooks=["hook", 0])
    return ["hooked", 0]


def area(nodes, link):
    nodes["second"] = node("TestConditioning", seed=3, tokens=154, width=768, pooled=0)
    nodes["area"] = node("ConditioningSetArea", conditioning=["second", 0], width=64, height=64, x=32, y=0, strength=0.7)
    nodes["both"] = node("ConditioningCombine", conditioning_1=link, conditioning_2=["area", 0])
    return ["both", 0]


def mask(nodes, link):
    nodes["mask"] = node("SolidMask", value=1.0, width=64, height=64)
    nodes["second"] = node("TestConditioning", seed=3, tokens=77, width=768, pooled=0)
    nodes["masked"] = node("ConditioningSetMask", conditioning=["second", 0], mask=["mask", 0], strength=0.6, set_cond_area="default")
    nodes["both"] = node("ConditioningCombine", conditioning_1=link, conditioning_2=["masked", 0])
    return ["both", 0]


def control(nodes, link):
    nodes["control"] = node("TestControl", conditioning=link, strength=1.0)
    return ["control", 0]


@pytest.mark.parametrize("where", [{"model": attention_patch}, {"positive": hook_lora}], ids=["attention patch", "hook LoRA"])
def test_what_an_engine_cannot_do_is_exactly_comfyuis_own_result(run, where):
    own = run(Choices(loader="CheckpointLoaderSimple", adapters=STYLE, **where))
    local = run(Choices(adapters=STYLE, **where))
    assert torch.equal(own, local)
    last = run.last_run
    assert last["served_by"] == "local" and last["reason"] and last["reason"] in run.status


@pytest.mark.parametrize(
    "choices",
    [
        Choices(batch=3, adapters=STYLE),
        Choices(cfg=1.0, adapters=STYLE),
        Choices(size=128, tokens=231, adapters=STYLE),
        Choices(size=72, adapters=STYLE),
        Choices(positive=area, adapters=STYLE, size=96),
        Choices(positive=mask, adapters=STYLE),
        Choices(positive=control, adapters=STYLE),
    ],
    ids=["batch of three", "one part (CFG 1)", "larger, more tokens", "odd latent size", "area", "mask", "ControlNet residuals"],
)
def test_shapes_and_conditionings_of_every_kind_are_served(run, relative, choices):
    own, served = run.both(choices)
    assert relative(own, served) <= 1e-3


def test_an_inpaint_model_is_served(run, relative):
    def masked(nodes, link):
        nodes["mask"] = node("SolidMask", value=0.5, width=64, height=64)
        nodes["noise"] = node("SetLatentNoiseMask", samples=link, mask=["mask", 0])
        return ["noise", 0]

    own, served = run.both(Choices(checkpoint="sd15_inpaint.safetensors", latent=masked))
    assert relative(own, served) <= 1e-3


def test_accelerate_model_serves_a_loaded_model_and_falls_back(run, relative):
    def accelerated(nodes, link):
        nodes["fast"] = node("RefitAccelerateModel", model=link)
        return ["fast", 0]

    own = run(Choices(loader="CheckpointLoaderSimple", adapters=STYLE))
    served = run(Choices(loader="CheckpointLoaderSimple", adapters=STYLE, model=accelerated))
    run.assert_served()
    assert relative(own, served) <= 1e-3 and not torch.equal(own, served)
    both = {"loader": "CheckpointLoaderSimple", "adapters": STYLE}
    own = run(Choices(**both, model=attention_patch))
    local = run(Choices(**both, model=lambda nodes, link: attention_patch(nodes, accelerated(nodes, link))))
    assert torch.equal(own, local) and run.last_run["served_by"] == "local"


def test_an_interrupt_gives_the_ui_back_at_once_and_the_next_run_is_right(run, relative, comfy):
    expected = run(Choices())
    prompt = comfy.queue(graph(run.next_file(), Choices(size=512, steps=20)))
    wait_for_lease(comfy)
    pressed = time.monotonic()
    comfy.call("/interrupt", {})
    entry = comfy.wait(prompt, 60)
    took = time.monotonic() - pressed
    names = [name for name, _ in entry["status"]["messages"]]
    assert "execution_interrupted" in names, entry["status"]
    print(f"interrupted in {took * 1000:.0f} ms")
    # 100 ms for the plugin; the rest is ComfyUI's own way from the exception to its history, on a busy test machine.
    assert took < 1.0
    assert torch.equal(run(Choices()), expected)
    run.assert_served()


def wait_for_lease(comfy) -> None:
    """A lease in use tells that a run is on the engine."""
    deadline = time.monotonic() + 120
    while not any(engine["leases"] for engine in comfy.call("/refit/read/engine.list")["engines"]):
        assert time.monotonic() < deadline, "no run came to the engine"
        time.sleep(0.02)


def test_a_sidecar_that_dies_during_a_run_ends_in_comfyuis_own_result(run, relative, comfy, sidecar):
    long = {"adapters": STYLE, "size": 192, "steps": 8}
    own = run(Choices(loader="CheckpointLoaderSimple", **long))
    run(Choices(adapters=STYLE))

    def kill_when_running():
        wait_for_lease(comfy)
        sidecar.kill()

    killer = threading.Thread(target=kill_when_running)
    killer.start()
    try:
        local = run(Choices(**long))
        killer.join()
        assert torch.equal(own, local)
        # Killed in the middle of a call, or before the next one.
        reason = run.last_run["reason"]
        assert run.last_run["served_by"] == "local" and ("connection" in reason or "cannot be reached" in reason), reason
        assert torch.equal(run(Choices(loader="CheckpointLoaderSimple")), run(Choices()))
    finally:
        killer.join()
        sidecar.start()
    deadline = time.monotonic() + 60
    while comfy.call("/refit/facts")["connection"]["state"] != "connected" and time.monotonic() < deadline:
        time.sleep(0.1)
    run(Choices(seed=77))
    run.assert_served()


def test_a_prompt_right_after_the_sidecar_was_killed_waits_for_the_one_that_the_plugin_starts(base, sidecar, tmp_path_factory, relative):
    """On a data folder and a sidecar of the plugin's own; the exported graphs are there already."""
    run_base, data = tmp_path_factory.mktemp("started"), tmp_path_factory.mktemp("own data")
    (run_base / "models").symlink_to(base / "models")
    shutil.copytree(sidecar.data / "engines", data / "engines")
    environment = {**server_environment(sidecar), "REFIT_DATA_DIR": str(data), "REFIT_SIDECAR": str(REPO / "sidecar/bin/refit-sidecar.mjs")}
    server = ComfyServer(run_base, environment=environment).ready()
    pid = None
    try:
        run = Run(server, tmp_path_factory.mktemp("out"))
        run(Choices(adapters=STYLE))
        run.assert_served()
        # Another seed: ComfyUI would not sample the same prompt again.
        own = run(Choices(loader="CheckpointLoaderSimple", adapters=STYLE, seed=31))
        pid = json.loads((data / "sidecar.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        served = run(Choices(adapters=STYLE, seed=31))
        run.assert_served()
        assert relative(own, served) <= 1e-3
        pid, killed = json.loads((data / "sidecar.json").read_text())["pid"], pid
        assert pid != killed
    finally:
        server.stop()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def test_unload_models_frees_the_engines(run, comfy):
    run(Choices(seed=8))
    assert comfy.call("/refit/read/engine.list")["engines"]
    freed(comfy)
    run(Choices(seed=9))
    run.assert_served()


def freed(comfy) -> None:
    """ComfyUI does what its button asks for in a moment of its own, and the engines go then."""
    comfy.call("/free", {"unload_models": True})
    deadline = time.monotonic() + 30
    while comfy.call("/refit/read/engine.list")["engines"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert comfy.call("/refit/read/engine.list")["engines"] == []


def warmed(run, checkpoint: str) -> str:
    return run.server.prompt({"warm": node("RefitWarmEngine", ckpt_name=checkpoint)}, run.PATIENCE_S)["outputs"]["warm"]["text"][0]


def test_warm_engine_makes_the_engine_that_the_next_run_is_on(run, comfy):
    freed(comfy)
    assert warmed(run, "sd15_tiny.safetensors") == "The engine for sd15_tiny.safetensors is ready."
    engines = [engine["id"] for engine in comfy.call("/refit/read/engine.list")["engines"]]
    run(Choices(seed=10, adapters=STYLE))
    run.assert_served()
    assert [engine["id"] for engine in comfy.call("/refit/read/engine.list")["engines"]] == engines and len(engines) == 1
    assert warmed(run, "sd15_other.safetensors") == "The engine for sd15_other.safetensors is ready."


def test_warm_engine_says_why_an_engine_cannot_be_made(run, base):
    checkpoints = base / "models" / "checkpoints"
    tensors = load_file(checkpoints / "sd15_tiny.safetensors")
    save_file({**tensors, "model.diffusion_model.stranger.weight": torch.zeros(5, 3)}, checkpoints / "odder.safetensors")
    try:
        with pytest.raises(AssertionError, match="The engine for odder.safetensors could not be made: .*stranger"):
            warmed(run, "odder.safetensors")
    finally:
        (checkpoints / "odder.safetensors").unlink()


def crowded(run, choices: Choices, label: str) -> int:
    """Bytes that ComfyUI would take from another MODEL on a full card to load this run's."""

    def between(nodes, link):
        nodes["crowded"] = node("TestCrowded", model=link, label=label)
        return ["crowded", 0]

    run(replace(choices, model=between))
    return int(run.server.wait_for_line(f"crowded {label}:").split()[-2])


def test_an_engines_run_takes_no_memory_from_other_models(run):
    if run.server.comfyui_version < (0, 33):
        pytest.skip("this ComfyUI does not page models, and makes room for each")
    assert crowded(run, Choices(adapters=STYLE, seed=31), "engine") == 0
    run.assert_served()
    # ComfyUI's own MODEL on a CPU is not paged either.
    assert crowded(run, Choices(loader="CheckpointLoaderSimple", adapters=STYLE, seed=31), "own") > 1 << 29
    # What stands in when an engine cannot serve is loaded as ComfyUI loads it.
    hooked = Choices(adapters=STYLE, seed=31, positive=hook_lora)
    assert crowded(run, hooked, "local") > 1 << 29 and run.last_run["served_by"] == "local"


def test_two_servers_with_different_stacks_share_one_sidecar(run, base, sidecar, tmp_path_factory):
    other_base = tmp_path_factory.mktemp("second")
    (other_base / "models").symlink_to(base / "models")
    second = ComfyServer(other_base, environment=server_environment(sidecar)).ready()
    try:
        stacks = [STYLE, [("kron.safetensors", -0.3)]]
        runs = [run, Run(second, tmp_path_factory.mktemp("out"))]
        seeds = (21, 22, 23)
        expected = [[run(Choices(adapters=stack, seed=seed)) for seed in seeds] for stack in stacks]
        got: list[list[torch.Tensor]] = [[], []]
        run(Choices(seed=20))

        def work(index):
            for seed in seeds:
                got[index].append(runs[index](Choices(adapters=stacks[index], seed=seed)))

        threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index in (0, 1):
            assert len(got[index]) == 3 and all(
                torch.equal(latent, right) for latent, right in zip(got[index], expected[index], strict=True)
            )
        engines = run.server.call("/refit/read/engine.list")["engines"]
        assert len(engines) == len({engine["structure"] for engine in engines}), engines
    finally:
        second.stop()
