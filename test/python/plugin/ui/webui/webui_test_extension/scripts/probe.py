"""For tests on a real UI only: writes latents to files, tells what the UI did, and puts obstacles into a run.

The tests link it twice, so that it acts as an extension before the plugin ("0-before") and as one after it ("z-after").
"""

import time
from pathlib import Path

import torch
from fastapi import FastAPI
from modules import script_callbacks, scripts, shared

BEFORE = Path(scripts.basedir()).name.startswith("0")
ORDERS, SEEN = shared.__dict__.setdefault("refit_test", ({}, {}))


class ConstantControl:
    """A stand-in ControlNet: residuals of the tiny UNet's layout, so that no ControlNet file is needed."""

    previous_controlnet = None
    transformer_options = None

    def inference_memory_requirements(self, dtype):
        return 0

    def get_models(self):
        return []

    def pre_run(self, model, percent_to_timestep_function):
        pass

    def cleanup(self):
        pass

    def get_control(self, x, t, cond, batched_number, *_):
        batch, _, height, width = x.shape

        def wave(scale, *shape):
            return scale * torch.sin(torch.arange(int(torch.tensor(shape).prod()), dtype=torch.float32)).reshape(shape).to(x)

        small = (batch, 320, height // 2, width // 2)
        output = [wave(0.1, batch, 320, height, width), wave(0.2, batch, 320, height, width), wave(0.3, *small), wave(0.4, *small)]
        return {"input": [], "middle": [wave(0.5, *small)], "output": output}


def own_wrapper(apply_model, call):
    return apply_model(call["input"], call["timestep"], **call["c"])


def obstruct(unet, name):
    if name == "wrapper":
        unet.set_model_unet_function_wrapper(own_wrapper)
    elif name == "attention patch":
        unet.set_model_attn1_output_patch(lambda value, options: value * 0.5)
    elif name == "half the patches":
        if hasattr(unet, "lora_patches"):
            unet.lora_patches = {key: dict(list(patches.items())[::2]) for key, patches in unet.lora_patches.items()}
        else:
            unet.patches = dict(list(unet.patches.items())[::2])
    elif name == "control":
        unet.controlnet_linked_list = ConstantControl()
    else:
        raise ValueError(f"unknown obstacle {name!r}")


class Probe(scripts.Script):
    def title(self):
        return "Refit test probe, before" if BEFORE else "Refit test probe, after"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process(self, p, *args):
        # A1111 draws the latent of an inpainting checkpoint's masked picture from torch's own generator, which no seed of the picture sets.
        torch.manual_seed(7)

    def process_before_every_sampling(self, p, *args, **kwargs):
        name = ORDERS.get("before" if BEFORE else "after")
        if name:
            unet = p.sd_model.forge_objects.unet.clone()
            obstruct(unet, name)
            p.sd_model.forge_objects.unet = unet

    def post_sample(self, p, ps, *args):
        if BEFORE:
            return
        SEEN["sampled_at"] = time.time()
        if hasattr(p.sd_model, "forge_objects"):
            unet = p.sd_model.forge_objects.unet
            SEEN["wrapped"] = "model_function_wrapper" in unet.model_options
            # Parameters that hold adapters now; Forge's loader keeps them by its own words, reForge's patcher by name.
            loader = getattr(unet.model, "lora_loader", None)
            SEEN["merged"] = len(loader.backup) if loader else len(unet.patches)
        else:
            from modules import sd_unet

            SEEN["unet"] = type(sd_unet.current_unet).__name__
        if ORDERS.get("folder"):
            samples = ps.samples if isinstance(ps.samples, torch.Tensor) else torch.stack(list(ps.samples))
            SEEN["count"] = SEEN.get("count", 0) + 1
            torch.save(samples.detach().float().cpu(), Path(ORDERS["folder"]) / f"{SEEN['count']}.pt")


def routes(_, app: FastAPI):
    @app.post("/refit-test/orders")
    def orders(body: dict):
        ORDERS.clear()
        ORDERS.update(body)
        SEEN.clear()
        return {}

    @app.get("/refit-test/seen")
    def seen():
        return SEEN


def step(params):
    SEEN["textinfo"] = shared.state.textinfo
    if ORDERS.get("stop at") == params.sampling_step:
        SEEN["stopped_at"] = time.time()
        shared.state.interrupt()


if not BEFORE:
    script_callbacks.on_cfg_denoiser(step)
    script_callbacks.on_app_started(routes)
