"""A1111's exchangeable UNet in a stand-in of A1111: what is served, what goes back to the original forward, and when."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
sys.path.insert(0, str(Path(__file__).resolve().parent))

import webui_fakes  # noqa: E402
from a1111_fakes import A1111, CONTEXT, TIMESTEPS, LowVram, UNetModel, X  # noqa: E402

IN_THE_UI = X * 10


@pytest.fixture
def a1111(tmp_path, monkeypatch):
    made = A1111(tmp_path, monkeypatch)
    yield made
    made.modules.devices.fp8 = False
    made.stop()


def test_there_is_one_option_per_safetensors_checkpoint_and_automatic_finds_it_while_switched_on(a1111):
    (option,) = a1111.sd_unet.unet_options
    assert option.label == "[Refit] base" and option.model_name is None
    a1111.plugin.status.update(enabled=True)
    assert option.model_name == "base"


def test_a_picture_is_on_the_engine_with_the_unet_multipliers_in_order(a1111):
    a1111.lora("ink.safetensors", 0.5)
    a1111.lora("neon.safetensors", -0.25)
    a1111.picture()
    assert torch.equal(a1111.step(), X + 0.25)
    assert a1111.stacks == [[("adapter:ink.safetensors", 0.5), ("adapter:neon.safetensors", -0.25)]]
    assert a1111.model.devices[-1] == "cpu" and a1111.view.stack == (("ink", 0.5), ("neon", -0.25))
    a1111.hook.end()
    assert a1111.sidecar.leases == {} and a1111.view.state == "idle"


def test_switched_off_the_uis_own_unet_is_back_on_its_device(a1111):
    a1111.picture()
    a1111.step()
    a1111.hook.end()
    a1111.picture(enabled=False)
    assert a1111.sd_unet.current_unet is None and a1111.model.devices[-1] == "gpu" and torch.equal(a1111.step(), IN_THE_UI)
    assert a1111.processing.comments == []


def test_switched_off_but_chosen_by_name_says_why_the_ui_itself_works(a1111):
    a1111.chosen = "[Refit] base"
    a1111.picture(enabled=False)
    assert torch.equal(a1111.step(), IN_THE_UI) and "switched off in the panel" in a1111.view.line


def test_a_stack_that_changes_between_calls_is_refitted_as_in_a_hires_pass(a1111):
    a1111.lora("ink.safetensors", 0.5)
    a1111.picture()
    a1111.step()
    a1111.lora("neon.safetensors", 1.0)
    a1111.networks_active()
    assert torch.equal(a1111.step(), X + 1.5) and torch.equal(a1111.step(), X + 1.5)
    assert len(a1111.stacks) == 2 and len(a1111.sidecar.leases) == 1


def test_a_refiner_that_changes_the_checkpoint_is_another_engine_state(a1111):
    (a1111.root / "Stable-diffusion" / "refiner.safetensors").write_bytes(b"r")
    a1111.picture()
    a1111.step()
    a1111.modules.shared.sd_model.sd_checkpoint_info.filename = a1111.file("Stable-diffusion/refiner.safetensors")
    a1111.step()
    assert [params["checkpoint"] for params in a1111.sidecar.named("engine.prepare")] == [
        "checkpoint:base.safetensors",
        "checkpoint:refiner.safetensors",
    ]


def test_an_engine_that_fails_hands_over_to_the_original_forward_on_its_device(a1111):
    a1111.picture()
    a1111.sidecar.faults.die_after_steps = 1
    assert torch.equal(a1111.step(), X)
    assert torch.equal(a1111.step(), IN_THE_UI) and torch.equal(a1111.step(), IN_THE_UI)
    assert a1111.model.devices[-1] == "gpu" and a1111.view.state == "fallback" and len(a1111.processing.comments) == 1
    a1111.hook.end()
    a1111.sidecar.faults.die_after_steps = None
    a1111.picture()
    assert torch.equal(a1111.step(), X) and a1111.model.devices[-1] == "cpu"


def hooked(a1111):
    a1111.model.__dict__["forward"] = lambda *args, **kwargs: X * 10


def old_method(a1111):
    a1111.modules.shared.opts.lora_functional = True


def another_rank(a1111):
    a1111.networks[0].dyn_dim = 4


def weights_as_a_list(a1111):
    a1111.networks[0].unet_multiplier = [0.5, 1.0]


def token_merging(a1111):
    a1111.modules.shared.sd_model.applied_token_merged_ratio = 0.5


def watched_results(a1111):
    a1111.model.block.register_forward_hook(lambda *_: None)


def hypertile(a1111):
    a1111.model.block.__dict__["forward"] = lambda x: x
    setattr(a1111.model.block, "__webui_hypertile_params", SimpleNamespace(enabled=True))


def dora_in_an_old_version(a1111):
    save_file({"lora_unet_x.dora_scale": torch.ones(1, 8)}, a1111.file("Lora/ink.safetensors"))


def another_class(a1111):
    model = type("MMDiT", (UNetModel,), {})(a1111.sd_unet)
    a1111.model = a1111.modules.shared.sd_model.model.diffusion_model = model


def weights_in_8_bits(a1111):
    a1111.modules.devices.fp8 = True


def tiling(a1111):
    a1111.model.block = torch.nn.Conv2d(1, 1, 3, padding_mode="circular")


def asymmetric_tiling(a1111):
    a1111.model.block.__dict__["_conv_forward"] = lambda *_: None


def parts(*names_and_shapes):
    def obstruct(a1111):
        save_file({name: torch.ones(shape) for name, shape in names_and_shapes}, a1111.file("Lora/ink.safetensors"))
        sys.modules["network"].NetworkModule.apply_weight_decompose = None

    obstruct.__name__ = names_and_shapes[0][0]
    return obstruct


OBSTACLES = {
    another_class: "models of class MMDiT",
    weights_in_8_bits: "8 bits",
    tiling: "tiling",
    asymmetric_tiling: "module block",
    parts(("x.dora_scale", (8, 1))): "a scale for each output",
    parts(("x.a1.weight", (4, 8))): "a GLoRA",
    parts(("x.oft_blocks", (4, 8, 8))): "an OFT or BOFT",
    parts(("x.oft_diag", (4, 8, 8))): "an OFT",
    token_merging: "token merging",
    watched_results: "module block",
    hypertile: "module block",
    dora_in_an_old_version: "ink is a DoRA",
    hooked: "ControlNet",
    old_method: "old method",
    another_rank: "at another rank",
    weights_as_a_list: "block weights",
}


@pytest.mark.parametrize(("obstruct", "says"), OBSTACLES.items(), ids=[name.__name__ for name in OBSTACLES])
def test_what_an_engine_cannot_do_goes_to_the_original_unet_before_the_first_call(a1111, obstruct, says):
    a1111.lora("ink.safetensors", 0.5)
    obstruct(a1111)
    a1111.picture()
    assert a1111.sd_unet.current_unet is None and a1111.model.devices[-1] == "gpu"
    assert torch.equal(a1111.step(), IN_THE_UI) and a1111.stacks == []
    assert a1111.view.state == "fallback" and says in a1111.view.line and len(a1111.processing.comments) == 1


def test_what_leaves_the_results_alone_is_served(a1111):
    """Hypertile that was switched off again, the hooks of --medvram, DoRA in a version that knows it."""
    a1111.model.block.__dict__["forward"] = lambda x: x
    setattr(a1111.model.block, "__webui_hypertile_params", SimpleNamespace(enabled=False))
    a1111.model.block.register_forward_pre_hook(lambda *_: None)
    dora_in_an_old_version(a1111)
    sys.modules["network"].NetworkModule.apply_weight_decompose = None
    a1111.lora("ink.safetensors", 0.5)
    a1111.picture()
    assert torch.equal(a1111.step(), X + 0.5)


@pytest.mark.parametrize("items", [("ink", "0.5", "lbw=NONE"), ("ink", "0.5", "0.5", "8"), ("ink", "0@0,1@1")], ids=str)
def test_arguments_of_other_extensions_are_refused(a1111, items):
    a1111.lora("ink.safetensors", 0.5)
    a1111.picture(tags={"lora": [webui_fakes.tag(*items)]})
    assert torch.equal(a1111.step(), IN_THE_UI) and a1111.view.state == "fallback" and "ink" in a1111.view.line


def test_an_extension_that_hooks_the_forward_after_us_gets_the_unet_on_its_device(a1111):
    a1111.picture()
    a1111.hook.before_step()
    assert torch.equal(a1111.step(), X)
    hooked(a1111)
    a1111.hook.before_step()
    assert a1111.sd_unet.current_unet is None and a1111.model.devices[-1] == "gpu" and "ControlNet" in a1111.view.line
    a1111.hook.before_step()
    assert len(a1111.processing.comments) == 1


def test_an_extension_that_patches_modules_before_the_first_call_is_noticed(a1111):
    a1111.picture()
    a1111.model.block.__dict__["forward"] = lambda x: x
    assert torch.equal(a1111.step(), IN_THE_UI) and "module block" in a1111.view.line and a1111.stacks == []


@pytest.mark.parametrize("button", ["interrupted", "skipped"])
def test_a_button_during_a_call_gives_control_back_with_the_uis_own_exception(a1111, button):
    a1111.sidecar.faults.prepare_seconds = 30
    a1111.picture()
    threading.Timer(0.2, setattr, (a1111.modules.shared.state, button, True)).start()
    with pytest.raises(webui_fakes.InterruptedException):
        a1111.step()
    assert a1111.processing.comments == [] and a1111.sd_unet.current_unet is not None


def test_the_pooled_text_of_sdxl_travels_by_keyword(a1111):
    a1111.sidecar.more_inputs = ["y"]
    a1111.picture()
    assert torch.equal(a1111.model(X, TIMESTEPS, CONTEXT, y=torch.zeros(2, 2816)), X)
    sent = next(
        tensors
        for method, _, tensors in a1111.sidecar.calls
        if method == "conditioning.put" and next(iter(tensors.values())).shape == (2, 2816)
    )
    assert len(sent) == 1


def test_a_checkpoint_that_came_after_the_list_was_made_is_listed_when_it_is_used(a1111):
    a1111.sd_unet.unet_options = []
    a1111.picture()
    assert a1111.listed == 2 and torch.equal(a1111.step(), X)
    a1111.hook.before_picture(a1111.wish)
    assert a1111.listed == 2


def load_another_checkpoint(a1111):
    """As the UI does within a picture for a refiner, or a hires pass with a checkpoint of its own: with another configuration it leaves the slot empty."""
    a1111.apply_unet("None")
    (a1111.root / "Stable-diffusion" / "refiner.safetensors").write_bytes(b"r")
    a1111.modules.shared.sd_model.sd_checkpoint_info.filename = a1111.file("Stable-diffusion/refiner.safetensors")


def test_the_slot_that_a_refiner_emptied_is_taken_again_at_its_next_step(a1111):
    a1111.picture()
    a1111.step()
    load_another_checkpoint(a1111)
    a1111.hook.before_step()
    assert torch.equal(a1111.step(), X) and a1111.model.devices[-1] == "cpu"
    assert [params["checkpoint"] for params in a1111.sidecar.named("engine.prepare")] == [
        "checkpoint:base.safetensors",
        "checkpoint:refiner.safetensors",
    ]
    assert a1111.processing.comments == []


def test_the_panels_wishes_hold_for_a_unet_that_the_ui_makes_within_the_picture(a1111):
    from refit_sidecar_plugin.ui.webui.wish import Wish

    a1111.picture()
    a1111.hook.networks_active(a1111.processing, Wish(True, "torch"), {})
    load_another_checkpoint(a1111)
    a1111.apply_unet()
    a1111.step()
    assert a1111.sidecar.named("engine.prepare")[-1]["host"] == "torch"


def test_a_picture_that_was_given_up_stays_in_the_ui_to_its_end(a1111):
    a1111.sidecar.faults.die_after_steps = 0
    a1111.picture()
    assert torch.equal(a1111.step(), IN_THE_UI)
    a1111.sidecar.faults.die_after_steps = None
    a1111.networks_active()
    a1111.hook.before_step()
    assert a1111.sd_unet.current_unet is None and len(a1111.processing.comments) == 1


def test_between_pictures_an_empty_slot_is_left_alone(a1111):
    a1111.picture()
    a1111.hook.end()
    a1111.apply_unet("None")
    a1111.hook.before_step()
    assert a1111.sd_unet.current_unet is None


@pytest.mark.parametrize(
    ("chosen", "file", "says"),
    [("None", "base.safetensors", '"SD Unet" is None'), ("Automatic", "old.ckpt", "old.ckpt is no safetensors file")],
)
def test_where_the_ui_chose_no_engine_the_reason_is_told_once(a1111, chosen, file, says):
    a1111.chosen = a1111.modules.shared.opts.sd_unet = chosen
    info = a1111.modules.shared.sd_model.sd_checkpoint_info
    info.filename, info.name, info.model_name = a1111.file(f"Stable-diffusion/{file}"), file, file.rsplit(".", 1)[0]
    a1111.apply_unet = a1111.sd_unet.apply_unet = lambda name=None: None
    a1111.picture()
    a1111.networks_active()
    a1111.hook.before_step()
    assert torch.equal(a1111.step(), IN_THE_UI) and a1111.view.state == "fallback"
    (comment,) = a1111.processing.comments
    assert says in comment


def test_a_size_that_halves_unevenly_is_left_to_the_ui(a1111):
    a1111.picture()
    assert torch.equal(a1111.model(torch.ones(2, 4, 8, 10), TIMESTEPS, CONTEXT), torch.full((2, 4, 8, 10), 10.0))
    assert "80 x 64 is no size in steps of 32" in a1111.view.line and a1111.stacks == []


def test_medvram_leaves_the_unet_where_it_is_while_an_engine_serves(a1111):
    low = LowVram(a1111)
    text = a1111.modules.lowvram.module_in_gpu = SimpleNamespace(to=lambda device: low.moved.append(f"text {device}"))
    a1111.picture()
    for _ in range(2):
        a1111.hook.before_step()
        low.hook()
        a1111.step()
    assert low.moved == ["text cpu"] and text is not None
    a1111.hook.end()
    assert a1111.modules.lowvram.module_in_gpu is None


def test_medvram_gets_the_unet_back_on_the_device_when_the_engine_fails(a1111):
    low = LowVram(a1111)
    a1111.picture()
    a1111.hook.before_step()
    a1111.sidecar.faults.die_after_steps = 0
    low.hook()
    assert torch.equal(a1111.step(), IN_THE_UI) and low.moved == ["gpu"]
    low.hook()
    assert low.moved == ["gpu"]
