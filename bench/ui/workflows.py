"""The prompts of the benchmark in ComfyUI's API format, one for each way to the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: "own": ComfyUI's own path. "compile": the same with TorchCompileModel. "engine": Load Engine, a MODEL without weights.
#: "accelerate": ComfyUI's loader, with an engine beside its weights.
WAYS = ("own", "compile", "engine", "accelerate")


@dataclass(frozen=True)
class Prompt:
    """What one prompt asks for. `stack`: adapters and their strengths, in order."""

    stack: tuple[tuple[str, float], ...] = ()
    checkpoint: str = "base"
    size: int = 1024
    batch: int = 1
    control: bool = False
    seed: int = 5


@dataclass(frozen=True)
class Setting:
    """What all prompts of a run share."""

    steps: int = 20
    cfg: float = 5.0
    context: int = 2048
    pooled: int = 1280
    tokens: int = 77
    #: Transformers of pictures: a file of diffusion_models in bf16, of the shapes in this file of test/golden/headers, and a latent of 16 channels.
    header: str = ""
    #: What Load Engine is asked for. ComfyUI's own path loads the file as it is.
    precision: str = "auto"


#: What --size may say. Transformers are sampled with one pass a step, as their stock workflows do.
SETTINGS = {
    "real": Setting(),
    "flux": Setting(cfg=1.0, context=4096, pooled=768, tokens=512, header="flux-dev"),
    "z-image": Setting(cfg=1.0, context=2560, pooled=0, tokens=200, header="z-image"),
    "tiny": Setting(steps=4, context=768, pooled=0),
}


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def loader(way: str, file: str, setting: Setting) -> dict[str, Any]:
    if way == "engine":
        return node("RefitLoadEngine", ckpt_name=file, precision=setting.precision)
    return node("UNETLoader", unet_name=file, weight_dtype="default") if setting.header else node("CheckpointLoaderSimple", ckpt_name=file)


def graph(way: str, prompt: Prompt, setting: Setting, out: Path) -> dict[str, Any]:
    """From random conditioning to a latent in the file `out`."""
    words = {"tokens": setting.tokens, "width": setting.context, "pooled": setting.pooled}
    nodes = {
        "load": loader(way, f"{prompt.checkpoint}.safetensors", setting),
        "pos": node("TestConditioning", seed=1, **words),
        "neg": node("TestConditioning", seed=2, **words),
        "empty": node(
            "EmptySD3LatentImage" if setting.header else "EmptyLatentImage",
            width=prompt.size,
            height=prompt.size,
            batch_size=prompt.batch,
        ),
    }
    model: Sequence[object] = ["load", 0]
    for index, (name, strength) in enumerate(prompt.stack):
        nodes[f"lora{index}"] = node(
            "LoraLoaderModelOnly", model=list(model), lora_name=f"{name}.safetensors", strength_model=round(strength, 3)
        )
        model = [f"lora{index}", 0]
    if way in ("compile", "accelerate"):
        kind = {"compile": ("TorchCompileModel", {"backend": "inductor"}), "accelerate": ("RefitAccelerateModel", {})}[way]
        nodes["change"] = node(kind[0], model=list(model), **kind[1])
        model = ["change", 0]
    positive, negative = ["pos", 0], ["neg", 0]
    if prompt.control:
        nodes["hint"] = node("EmptyImage", width=prompt.size, height=prompt.size, batch_size=1, color=0x808080)
        nodes["net"] = node("ControlNetLoader", control_net_name="control.safetensors")
        nodes["control"] = node(
            "ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=["net", 0], image=["hint", 0],
            strength=0.8, start_percent=0.0, end_percent=1.0,
        )  # fmt: skip
        positive, negative = ["control", 0], ["control", 1]
    nodes["sample"] = node(
        "KSampler", model=list(model), seed=prompt.seed, steps=setting.steps, cfg=setting.cfg, sampler_name="euler", scheduler="normal",
        positive=positive, negative=negative, latent_image=["empty", 0], denoise=1.0,
    )  # fmt: skip
    nodes["save"] = node("TestSaveLatent", samples=["sample", 0], path=str(out))
    return nodes
