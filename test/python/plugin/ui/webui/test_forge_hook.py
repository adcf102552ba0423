"""Forge's hook and wrapper in a stand-in of Forge: what is served, what is left alone, and what comes back."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import webui_fakes  # noqa: E402
from forge_fakes import PARAMETER, KModel, OldPatcher  # noqa: E402
from forge_ui import IN_THE_UI, SIGMA, Forge, X, on_engine  # noqa: E402
from refit_sidecar_plugin.client import SidecarRefused  # noqa: E402


@pytest.fixture
def forge(tmp_path, monkeypatch):
    made = Forge(tmp_path, monkeypatch)
    yield made
    made.stop()


def test_a_sampling_run_is_on_the_engine_with_the_unet_strengths_in_order(forge):
    forge.lora("ink.safetensors", 0.5)
    forge.lora("neon.safetensors", -0.25)
    forge.before_sampling()
    assert forge.stacks == [[("adapter:ink.safetensors", 0.5), ("adapter:neon.safetensors", -0.25)]]
    assert torch.equal(forge.step(), on_engine(0.25))
    timestep = next(tensors["timestep"] for method, _, tensors in forge.sidecar.calls if method == "engine.step")
    assert list(torch.frombuffer(bytearray(timestep.data), dtype=torch.float32)) == [200.0, 200.0]
    forge.hook.end()
    assert forge.sidecar.leases == {} and forge.view.state == "idle" and forge.view.stack == (("ink", 0.5), ("neon", -0.25))
    assert forge.processing.comments == []


def test_a_lora_of_no_strength_changes_nothing(forge):
    forge.lora("ink.safetensors", 0.0)
    forge.lora("neon.safetensors", 0.5)
    forge.before_sampling()
    assert torch.equal(forge.step(), on_engine(0.5))


def test_the_uis_own_unet_keeps_its_adapters_and_stays_off_the_device(forge):
    forge.lora("ink.safetensors", 0.5)
    forge.before_sampling()
    assert forge.unet is not forge.own and forge.unet.lora_patches == {} and forge.unet.load_device == torch.device("cpu")
    assert forge.unet.model_options["memory_peak_estimation_modifier"]([4, 4, 8, 8]) == 0
    assert (
        len(forge.own.lora_patches) == 1
        and forge.own.load_device == torch.device("cuda")
        and forge.own.model_options == {"transformer_options": {}}
    )
    own_model = forge.own.model.diffusion_model
    forge.step()
    assert forge.own.model.diffusion_model is own_model


def test_switched_off_nothing_is_touched_or_asked(forge):
    from refit_sidecar_plugin.ui.webui.wish import Wish

    forge.wish = Wish()
    forge.before_sampling()
    assert forge.unet is forge.own and forge.stacks == [] and torch.equal(forge.step(), IN_THE_UI)


def test_the_hires_pass_calls_twice_and_the_last_call_decides(forge):
    forge.lora("ink.safetensors", 0.5)
    forge.before_sampling()
    first = forge.unet
    forge.before_sampling()
    assert forge.unet is first and len(forge.stacks) == 1
    forge.unet = forge.own
    forge.lora("neon.safetensors", 1.0)
    forge.before_sampling()
    assert torch.equal(forge.step(), on_engine(1.5))
    forge.hook.end()
    assert len(forge.stacks) == 2 and forge.sidecar.leases == {}


def online(forge):
    forge.own.lora_patches.clear()
    forge.lora("ink.safetensors", 0.5, online=True)


def block_weights(forge):
    (patches,) = forge.own.lora_patches.values()
    patches[PARAMETER][0][0] *= 0.5


def other_values(forge):
    (patches,) = forge.own.lora_patches.values()
    patches[PARAMETER][0][1] = ("lora", (torch.rand(4, 2), torch.rand(2, 4), 1.0, None, None))


def missing_layers(forge):
    forge.own.lora_patches = {key: {} for key in forge.own.lora_patches}


def a_pickle(forge):
    forge.lora("old.pt", 1.0)


def outside_of_the_folders(forge):
    (forge.root.parent / "elsewhere.safetensors").write_bytes(b"x")
    forge.loader.apply(forge.own, str(forge.root.parent / "elsewhere.safetensors"), 1.0)


def eight_bits(forge):
    forge.own.model.storage_dtype = torch.float8_e4m3fn


def a_wrapper(forge):
    forge.own.set_model_unet_function_wrapper(lambda apply_model, call: apply_model(call["input"], call["timestep"], **call["c"]))


def token_merging(forge):
    forge.own.model_options["transformer_options"]["patches"] = {"attn1_patch": [print]}


def replaced_parts(forge):
    forge.own.object_patches["diffusion_model.layer"] = torch.nn.Identity()


def patched_module(forge):
    forge.own.model.diffusion_model.layer.__dict__["forward"] = lambda x: x


def a_kind_that_forge_half_knows(forge):
    sys.modules["backend.patcher.lora"].load_lora = lambda path, keys: (
        {PARAMETER: forge.loader.adapter(path)},
        {"lora_unet_x.oft_blocks": 1},
    )


def unknown_model(forge):
    forge.own.model.diffusion_model = torch.nn.Identity()


def tagged(*items):
    def obstruct(forge):
        forge.processing.extra_network_data = {"lora": [webui_fakes.tag(*items)]}

    return obstruct


def hypernetwork(forge):
    forge.processing.extra_network_data = {"hypernet": [webui_fakes.tag("style", "1")]}


def another_loader(forge):
    forge.modules.extra_networks.extra_network_registry = {"lora": type("LoraCtl", (), {"__module__": "lora_ctl_network"})()}


def a_checkpoint_that_is_a_pickle(forge):
    forge.processing.sd_model.sd_checkpoint_info.filename = forge.file("Stable-diffusion/old.ckpt")


def no_sidecar(forge):
    from refit_sidecar_plugin.client import SidecarUnavailable

    forge.sidecar.faults.fail["engine.prepare"] = SidecarUnavailable("CLIENT_CONNECTION_LOST")


OBSTACLES = {
    online: "online mode",
    block_weights: "after they were loaded",
    other_values: "after they were loaded",
    missing_layers: "after they were loaded",
    a_pickle: "old.pt is no safetensors file",
    outside_of_the_folders: "elsewhere.safetensors",
    eight_bits: "float8",
    a_wrapper: "another extension wraps the model",
    token_merging: "inside the model",
    replaced_parts: "replaced parts of the model",
    patched_module: "changes the UNet's module layer",
    a_kind_that_forge_half_knows: "leaves out in part",
    unknown_model: "models of class Identity",
    tagged("ink", "0.8", "lbw=OUTALL"): "lbw=",
    tagged("ink", "0@0,1@0.5"): "schedule",
    tagged("ink", "1", "1", "16"): "dynamic rank",
    hypernetwork: "hypernetwork",
    another_loader: "another extension replaced the LoRA loader",
    a_checkpoint_that_is_a_pickle: "old.ckpt is no safetensors file",
    no_sidecar: "connection",
}


@pytest.mark.parametrize(
    ("obstruct", "says"), OBSTACLES.items(), ids=[f"{number} {name.__name__}" for number, name in enumerate(OBSTACLES)]
)
def test_what_an_engine_cannot_do_leaves_the_ui_untouched_with_one_clear_line(forge, obstruct, says):
    forge.lora("ink.safetensors", 0.5)
    obstruct(forge)
    own, options = forge.unet, dict(forge.unet.model_options)
    forge.before_sampling()
    assert forge.unet is own and own.model_options == options and own.load_device == torch.device("cuda")
    assert forge.view.state == "fallback" and says in forge.view.line and "runs in " in forge.view.line
    assert len(forge.processing.comments) == 1 and says in forge.processing.comments[0]
    assert forge.sidecar.leases == {}


def test_an_engine_that_fails_during_the_run_hands_over_to_the_uis_own_model(forge):
    forge.lora("ink.safetensors", 0.5)
    forge.sidecar.faults.die_after_steps = 1
    forge.before_sampling()
    assert torch.equal(forge.step(), on_engine(0.5))
    assert torch.equal(forge.step(), IN_THE_UI) and torch.equal(forge.step(), IN_THE_UI)
    assert forge.memory.loaded == [(forge.own, 4000)]
    assert forge.view.state == "fallback" and len(forge.processing.comments) == 1
    forge.hook.end()
    assert forge.view.state == "fallback"
    forge.sidecar.faults.die_after_steps = None
    forge.unet = forge.own
    forge.before_sampling()
    assert torch.equal(forge.step(), on_engine(0.5)) and forge.view.state == "serving"


def test_a_patch_that_only_shows_in_a_call_is_not_served(forge):
    forge.before_sampling()
    assert torch.equal(forge.step(transformer_options={"patches_replace": {"attn1": {("input", 1): print}}}), IN_THE_UI)
    assert "attn1" in forge.view.line


def test_more_channels_than_the_checkpoint_has_are_not_served(forge):
    forge.before_sampling()
    assert torch.equal(forge.step(c_concat=torch.zeros(2, 5, 8, 8)), X - 10 * SIGMA[0] * X)
    assert "9 channels where its checkpoint has 4" in forge.view.line


def test_controlnet_residuals_travel_even_if_the_controlnet_came_after_our_hook(forge):
    forge.before_sampling()
    residual = torch.zeros(2, 3, 8, 8)
    control = {"input": [], "output": [residual] * 4, "middle": [residual]}
    assert torch.equal(forge.step(control=control, control_model=object()), on_engine())
    assert [params["residuals"] for params in forge.sidecar.named("engine.prepare")] == [False, True]
    assert len(control["output"]) == 4
    assert "mid_residual" in next(tensors for method, _, tensors in forge.sidecar.calls if method == "engine.step")


def test_a_later_wrapper_of_another_extension_gets_the_adapters_and_the_device_back(forge):
    forge.lora("ink.safetensors", 0.5)
    forge.before_sampling()
    later = forge.unet.clone()
    a_wrapper(SimpleNamespace(own=later))
    forge.unet = later
    forge.hook.before_step(X)
    assert forge.unet is not later, "Forge loads nothing twice into one patcher"
    assert forge.unet.lora_patches == forge.own.lora_patches and forge.unet.load_device == torch.device("cuda")
    assert "memory_peak_estimation_modifier" not in forge.unet.model_options and forge.memory.loaded == [(forge.unet, 4000)]
    assert torch.equal(forge.step(), IN_THE_UI) and "another extension wraps the model" in forge.view.line
    forge.hook.before_step(X)
    assert len(forge.processing.comments) == 1


def test_a_refiner_that_takes_over_within_the_run_gets_an_engine_too_and_stays_off_the_device(forge):
    forge.lora("ink.safetensors", 0.5)
    forge.before_sampling()
    forge.hook.before_step(X)
    assert torch.equal(forge.step(), on_engine(0.5))
    forge.refine()
    forge.hook.before_step(X)
    assert torch.equal(forge.step(), on_engine(0.5)) and forge.memory.loaded == [(forge.unet, 0)]
    assert [params["checkpoint"] for params in forge.sidecar.named("engine.prepare")] == [
        "checkpoint:base.safetensors",
        "checkpoint:refiner.safetensors",
    ]
    forge.hook.end()
    assert forge.sidecar.leases == {} and forge.processing.comments == []


def test_a_refiner_that_no_engine_serves_runs_in_the_ui_and_says_so(forge):
    forge.before_sampling()
    forge.refine()
    forge.own.object_patches = {"diffusion_model.layer": 1}
    forge.hook.before_step(X)
    forge.hook.before_step(X)
    assert torch.equal(forge.step(), IN_THE_UI) and forge.unet is forge.own and forge.memory.loaded == []
    assert len(forge.processing.comments) == 1 and "refiner.safetensors" in forge.view.line


def test_clones_of_the_patcher_share_one_wrapper_and_count_as_ours(forge):
    forge.before_sampling()
    wrapper = forge.wrapper
    forge.unet = forge.unet.clone()
    assert forge.wrapper is wrapper
    forge.hook.before_step(X)
    assert torch.equal(forge.step(), on_engine()) and forge.memory.loaded == []


@pytest.mark.parametrize("button", ["interrupted", "skipped"])
def test_a_button_during_a_step_gives_control_back_with_the_uis_own_exception(forge, button):
    forge.sidecar.faults.step_seconds = 30
    forge.before_sampling()
    state = forge.modules.shared.state
    threading.Timer(0.2, setattr, (state, button, True)).start()
    with pytest.raises(webui_fakes.InterruptedException):
        forge.step()
    assert forge.own.model.diffusion_model.__class__.__name__ == "IntegratedUNet2DConditionModel"
    forge.hook.end()
    assert forge.processing.comments == []


@pytest.mark.parametrize("button", ["interrupted", "skipped", "stopping_generation"])
def test_a_button_while_the_engine_is_prepared_leaves_the_ui_untouched(forge, button):
    forge.sidecar.faults.prepare_seconds = 30
    threading.Timer(0.2, setattr, (forge.modules.shared.state, button, True)).start()
    forge.before_sampling()
    assert forge.unet is forge.own and forge.processing.comments == []


def test_stop_finishes_the_picture_on_the_engine(forge):
    forge.before_sampling()
    forge.modules.shared.state.stopping_generation = True
    assert torch.equal(forge.step(), on_engine())


def test_progress_stands_at_the_preview_while_the_engine_is_prepared_and_is_gone_after(forge):
    forge.sidecar.faults.prepare_seconds = 0.3
    state, texts = forge.modules.shared.state, []
    state.textinfo = "Sampling"

    def watch():
        while not texts:
            if state.textinfo != "Sampling":
                texts.append((state.textinfo, forge.view.state))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    forge.before_sampling()
    watcher.join()
    assert texts == [("Refit: getting an engine ready for base.safetensors", "warming")] and state.textinfo == "Sampling"
    forge.hook.end()
    forge.unet, texts = forge.own, []
    watcher = threading.Thread(target=watch)
    watcher.start()
    forge.before_sampling()
    watcher.join()
    assert texts == [("Refit: writing weights of base.safetensors", "refitting")]


def test_the_sidecar_gets_room_from_the_uis_own_models(forge):
    from refit_sidecar_plugin.ui.webui.forge.memory import make_room

    assert make_room(2 << 20) == 2 << 20 and forge.memory.freed == [2 << 20]


def test_forks_with_the_old_patcher_tell_their_files_by_what_they_noted(tmp_path, monkeypatch):
    fork = Forge(tmp_path, monkeypatch, OldPatcher)
    try:
        fork.lora("ink.safetensors", 0.5)
        fork.processing.sd_model.current_lora_hash = str([[fork.file("Lora/ink.safetensors"), 0.5, 1.0]])
        fork.before_sampling()
        assert fork.unet.patches == {} and fork.own.patches and torch.equal(fork.step(), on_engine(0.5))
        fork.hook.end()
        fork.unet = fork.own
        fork.processing.sd_model.current_lora_hash = "something else"
        fork.before_sampling()
        assert fork.unet is fork.own and "does not tell which LoRA files" in fork.view.line
    finally:
        fork.stop()


def test_a_fork_does_not_take_the_patcher_without_adapters_for_the_one_with_them(forge):
    from refit_sidecar_plugin.ui.webui.forge.patcher import with_adapters_of, without_adapters

    own = OldPatcher(KModel())
    bare = without_adapters(own)
    assert bare.patches_uuid != own.patches_uuid
    assert with_adapters_of(bare.clone(), own).patches_uuid == own.patches_uuid


def test_an_oft_that_a_fork_fails_to_apply_stays_in_the_ui(tmp_path, monkeypatch):
    forge = Forge(tmp_path, monkeypatch, OldPatcher)
    try:
        oft = SimpleNamespace(name="oft", weights=(torch.zeros(2, 2, 2), None, None, None))
        monkeypatch.setattr(forge.loader, "adapter", lambda path: oft)
        forge.lora("ink.safetensors", 0.5)
        forge.processing.sd_model.current_lora_hash = str([[forge.file("Lora/ink.safetensors"), 0.5, 1.0]])
        forge.before_sampling()
        assert forge.unet is forge.own and "without alpha" in forge.view.line
    finally:
        forge.stop()


def test_a_lost_engine_says_so_and_names_the_checkpoint(forge):
    forge.sidecar.faults.fail["engine.prepare"] = SidecarRefused("ENGINE_FAILED", "the engine host ended")
    forge.before_sampling()
    assert "base.safetensors runs in" in forge.view.line and "the engine host ended" in forge.view.line
