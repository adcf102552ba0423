"""A stand-in of A1111 around the plugin: its UNet, which the slot replaces, its way through a picture, and the mover of --medvram."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import torch
import webui_fakes
from hook_ui import CONTEXT, Ui

__all__ = ["A1111", "CONTEXT", "TIMESTEPS", "LowVram", "UNetModel", "X"]

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

    channel_mult = (1, 2, 4)

    def forward(self, x, timesteps=None, context=None, *args, **kwargs):
        if self.sd_unet.current_unet is not None:
            return self.sd_unet.current_unet.forward(x, timesteps, context, *args, **kwargs)
        return x * 10


class A1111(Ui):
    def __init__(self, root, monkeypatch):
        super().__init__(root, monkeypatch)
        from refit_sidecar_plugin.ui.webui.a1111.hook import A1111Hook
        from refit_sidecar_plugin.ui.webui.a1111.options import list_options
        from refit_sidecar_plugin.ui.webui.wish import Wish

        self.sd_unet, self.list_options, self.hook, self.wish = self.modules.sd_unet, list_options, A1111Hook(), Wish(enabled=True)
        self.model = UNetModel(self.sd_unet)
        self.modules.shared.sd_model = self.sd_model(model=SimpleNamespace(diffusion_model=self.model))
        self.modules.sd_models.checkpoints_list = {
            name: SimpleNamespace(filename=self.file(f"Stable-diffusion/{name}"), name=name, model_name=name.rsplit(".", 1)[0])
            for name in ("base.safetensors", "old.ckpt")
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
        from refit_sidecar_plugin.ui.webui.wish import Wish

        self.wish = Wish(enabled=enabled)
        self.plugin.status.update(enabled=enabled)
        self.hook.before_picture(self.wish)
        self.apply_unet()
        self.networks_active(tags)

    def networks_active(self, tags=None):
        self.hook.networks_active(self.processing, self.wish, tags or {})

    def lora(self, name, strength, **changes):
        disk = SimpleNamespace(filename=self.file(f"Lora/{name}"))
        self.networks.append(
            SimpleNamespace(
                **{"name": name, "unet_multiplier": strength, "te_multiplier": 9.0, "dyn_dim": None, "network_on_disk": disk, **changes}
            )
        )

    def step(self):
        return self.model(X, TIMESTEPS, CONTEXT)


class LowVram:
    """As modules/lowvram.py: one module is on the device at a time; a hook before the model's call moves it there."""

    def __init__(self, a1111) -> None:
        self.module_in_gpu, self.moved = None, []
        a1111.modules.lowvram.__dict__.update(module_in_gpu=None, send_everything_to_cpu=self.send_everything_to_cpu)
        self.lowvram, model = a1111.modules.lowvram, a1111.modules.shared.sd_model
        self.wrapper = SimpleNamespace(diffusion_model=a1111.model, to=lambda device: self.moved.append(device))
        model.model, model.lowvram = self.wrapper, True
        a1111.modules.devices.device = "gpu"

    def send_everything_to_cpu(self):
        if self.lowvram.module_in_gpu is not None:
            self.lowvram.module_in_gpu.to("cpu")
        self.lowvram.module_in_gpu = None

    def hook(self):
        if self.lowvram.module_in_gpu is not self.wrapper:
            self.wrapper.to("gpu")
            self.lowvram.module_in_gpu = self.wrapper
