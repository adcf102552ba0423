"""The plugin's hook in a stand-in of Forge: a sampling run from the hook before it to single calls of the model."""

from __future__ import annotations

import torch
import webui_fakes
from forge_fakes import KModel, Loader, Memory, Patcher, objects
from hook_ui import CONTEXT, Ui

X = torch.ones(2, 4, 8, 8)
SIGMA = torch.full((2,), 2.0)


class Forge(Ui):
    def __init__(self, root, monkeypatch, patcher=Patcher):
        super().__init__(root, monkeypatch)
        from refit_sidecar_plugin.ui.webui.forge.hook import ForgeHook
        from refit_sidecar_plugin.ui.webui.wish import Wish

        self.hook, self.wish, self.loader, self.memory = ForgeHook(), Wish(enabled=True), Loader(), Memory()
        self.own = patcher(KModel())
        self.processing = webui_fakes.Processing(self.sd_model(forge_objects=objects(self.own)))

    @property
    def unet(self):
        return self.processing.sd_model.forge_objects.unet

    @unet.setter
    def unet(self, value):
        self.processing.sd_model.forge_objects.unet = value

    @property
    def wrapper(self):
        return self.unet.model_options.get("model_function_wrapper")

    def lora(self, name: str, strength: float, **kwargs) -> None:
        self.loader.apply(self.own, self.file(f"Lora/{name}"), strength, **kwargs)

    def refine(self) -> None:
        """As the UI does within a run: another model with the prompt's LoRAs, loaded to the device."""
        (self.root / "Stable-diffusion" / "refiner.safetensors").write_bytes(b"r")
        self.processing.sd_model.sd_checkpoint_info.filename = self.file("Stable-diffusion/refiner.safetensors")
        self.own = self.unet = Patcher(KModel())
        self.lora("ink.safetensors", 0.5)

    def before_sampling(self) -> None:
        self.hook.before_sampling(self.processing, self.wish, X, (None, None))

    def step(self, **arguments):
        """As Forge's sampler calls the model."""
        options = {"cond_or_uncond": [1, 0], "cond_mark": SIGMA, "cond_indices": [0], "uncond_indices": [1], "sampling_sigmas": SIGMA}
        call = {"c_crossattn": CONTEXT, "transformer_options": options, **arguments}
        if self.wrapper is None:
            return self.unet.model.apply_model(X, SIGMA, **call)
        return self.wrapper(self.unet.model.apply_model, {"input": X, "timestep": SIGMA, "c": call, "cond_or_uncond": [1, 0]})


# x - (sigma * x + strengths) of the engine, x - 10 * sigma * x of the UI.
def on_engine(strengths: float = 0.0):
    return X - (SIGMA[0] * X + strengths)


IN_THE_UI = X - 10 * SIGMA[0] * X
