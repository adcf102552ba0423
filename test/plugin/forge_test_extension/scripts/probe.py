"""For tests on a real UI only: writes latents to files, tells what the plugin did, and puts obstacles into a run.

It is loaded before or after the plugin as its folder's name sorts, so that it can act as an extension on either side.
"""

import time

import torch
from fastapi import Body, FastAPI
from modules import script_callbacks, scripts, shared

ORDERS: dict = {}
SEEN: dict = {}


class Probe(scripts.Script):
    def title(self):
        return "Refit test probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process_before_every_sampling(self, p, *args, **kwargs):
        if ORDERS.get("wrapper"):
            unet = p.sd_model.forge_objects.unet.clone()
            unet.set_model_unet_function_wrapper(lambda apply_model, call: apply_model(call["input"], call["timestep"], **call["c"]))
            p.sd_model.forge_objects.unet = unet
        if ORDERS.get("attention patch"):
            unet = p.sd_model.forge_objects.unet.clone()
            unet.set_model_attn1_output_patch(lambda value, options: value * 0.5)
            p.sd_model.forge_objects.unet = unet
        if ORDERS.get("half the patches"):
            unet = p.sd_model.forge_objects.unet.clone()
            unet.lora_patches = {key: dict(list(patches.items())[::2]) for key, patches in unet.lora_patches.items()}
            p.sd_model.forge_objects.unet = unet

    def post_sample(self, p, ps, *args):
        unet = p.sd_model.forge_objects.unet
        SEEN["wrapped"] = "model_function_wrapper" in unet.model_options
        SEEN["merged"] = unet.model.lora_loader.loaded_hash
        if ORDERS.get("save"):
            samples = ps.samples if isinstance(ps.samples, torch.Tensor) else torch.stack(list(ps.samples))
            torch.save(samples.detach().cpu(), ORDERS["save"])


def step(params):
    SEEN.setdefault("steps", []).append(time.time())
    SEEN["textinfo"] = shared.state.textinfo


def routes(_, app: FastAPI):
    @app.post("/refit-test/orders")
    def orders(body: dict = Body(...)):
        ORDERS.clear()
        ORDERS.update(body)
        SEEN.clear()
        return {}

    @app.get("/refit-test/seen")
    def seen():
        return SEEN


script_callbacks.on_cfg_denoiser(step)
script_callbacks.on_app_started(routes)
