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
from hook_ui import CONTEXT, Ui  # noqa: E402

X, TIMESTEPS = torch.ones(2, 4, 8, 8), torch.tensor([900.0, 900.0])


class UNetModel(torch.nn.Module):
    """As the UI patches it: every call goes to the current UNet, if there is one."""

    def __init__(self, sd_unet) -> None:
        super().__init__()
        self.__dict__["sd_unet"], self.devices = sd_unet, ["gpu"]
        self.block = torch.nn.Identity()

    def to(self, device):
        self.devices.append(device)
        return self

    def forward(self, x, timesteps=None, context=None, *args, **kwargs):
        if self.sd_unet.current_unet is not None:
            return self.sd_unet.current_unet.forward(x, timesteps, context, *args, **kwargs)
        return x * 10


class A1111(Ui):
    def __init__(self, root, monkeypatch):
        super().__init__(root, monkeypatch)
        from refit_sidecar_plugin.hosts.webui.a1111.hook import A1111Hook
        from refit_sidecar_plugin.hosts.webui.a1111.options import list_options
        from refit_sidecar_plugin.hosts.webui.wish import Wish

        self.sd_unet, self.list_options, self.hook, self.wish = self.modules.sd_unet, list_options, A1111Hook(), Wish(enabled=True)
        self.model = UNetModel(self.sd_unet)
        self.modules.shared.sd_model = self.sd_model(model=SimpleNamespace(diffusion_model=self.model))
        self.modules.sd_models.checkpoints_list = {
            name: SimpleNamespace(filename=self.file(f"Stable-diffusion/{name}"), name=name, model_name=name.rsplit(".", 1)[0]) for name in ("base.safetensors", "old.ckpt")
        }
        self.modules.devices.torch_gc = lambda: None
        self.sd_unet.list_unets, self.sd_unet.apply_unet = self.list_unets, self.apply_unet
        self.networks = sys.modules["networks"].loaded_networks
        monkeypatch.setitem(sys.modules, "network", SimpleNamespace(NetworkModule=type("NetworkModule", (), {})))
        self.processing = webui_fakes.Processing(self.modules.shared.sd_model)
        self.chosen, self.listed = "Automatic", 0
        self.list_unets()

    def list_unets(self):
        self.listed += 1
        self.sd_unet.unet_options = []
        self.list_options(self.sd_unet.unet_options)

    def apply_unet(self, name=None):
        """In the words of the UI: chooses by the setting, moves the original UNet, activates."""
        wanted, options = name or self.chosen, self.sd_unet.unet_options
        if wanted == "Automatic":
            option = next((option for option in options if option.model_name == "base"), None)
        else:
            option = next((option for option in options if option.label == wanted), None)
        current = self.sd_unet.current_unet
        if option is getattr(current, "option", None):
            return
        if current is not None:
            current.deactivate()
        self.model.to("gpu" if option is None else "cpu")
        self.sd_unet.current_unet = option.create_unet() if option else None
        if option:
            self.sd_unet.current_unet.option = option

    def picture(self, *, tags=None, enabled=True):
        """The UI's way to the first call of the model."""
        from refit_sidecar_plugin.hosts.webui.wish import Wish

        self.wish = Wish(enabled=enabled)
        self.plugin.status.update(enabled=enabled)
        self.hook.before_picture(self.wish)
        self.apply_unet()
        self.networks_active(tags)

    def networks_active(self, tags=None):
        self.hook.networks_active(self.processing, self.wish, tags or {})

    def lora(self, name, strength, **changes):
        disk = SimpleNamespace(filename=self.file(f"Lora/{name}"))
        self.networks.append(SimpleNamespace(**{"name": name, "unet_multiplier": strength, "te_multiplier": 9.0, "dyn_dim": None, "network_on_disk": disk, **changes}))

    def step(self):
        return self.model(X, TIMESTEPS, CONTEXT)


IN_THE_UI = X * 10


@pytest.fixture
def a1111(tmp_path, monkeypatch):
    made = A1111(tmp_path, monkeypatch)
    yield made
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
    assert [params["checkpoint"] for params in a1111.sidecar.named("engine.prepare")] == ["checkpoint:base.safetensors", "checkpoint:refiner.safetensors"]


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
    save_file({"lora_unet_x.dora_scale": torch.ones(1)}, a1111.file("Lora/ink.safetensors"))


OBSTACLES = {
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
    a1111.picture()
    assert torch.equal(a1111.model(X, TIMESTEPS, CONTEXT, y=torch.zeros(2, 2816)), X)
    sent = next(tensors for method, _, tensors in a1111.sidecar.calls if method == "conditioning.put" and next(iter(tensors.values())).shape == (2, 2816))
    assert len(sent) == 1


def test_a_checkpoint_that_came_after_the_list_was_made_is_listed_when_it_is_used(a1111):
    a1111.sd_unet.unet_options = []
    a1111.picture()
    assert a1111.listed == 2 and torch.equal(a1111.step(), X)
    a1111.hook.before_picture(a1111.wish)
    assert a1111.listed == 2
