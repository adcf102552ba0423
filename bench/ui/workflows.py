"""The prompts of the benchmark in ComfyUI's API format, one for each way to the denoiser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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


#: Of the table, on a card of another size: each kind of change once, in an order in which each of them is one.
ONE_OF_EACH = (
    "first", "no change, another seed", "LoRA A, first", "LoRA B, first", "LoRA A after B", "LoRA B after A", "strength", "stack of four, first",
    "another checkpoint", "first checkpoint again, with A", "back to none",
)  # fmt: skip


def plan(size: int, kind: str) -> Iterator[tuple[str, Prompt]]:
    """The prompts of the table, in order. A name that occurs twice is the same prompt again and must give the same bits on an engine. `kind`: what --size says; transformers have
    one checkpoint, and plain LoRAs of one rank."""
    none, a, b = Prompt(size=size), Prompt((("a", 0.8),), size=size), Prompt((("b", 0.8),), size=size)
    four, four2 = (tuple((name, 0.5) for name in names) for names in ("abcd", "efgh"))
    yield "first", none
    yield "no change, another seed", replace(none, seed=6)
    yield "LoRA A, first", a
    yield "LoRA B, first", b
    yield "LoRA A after B", a
    yield "LoRA B after A", b
    yield "strength", replace(b, stack=(("b", 0.6),))
    yield "LoRA A after B", a
    yield "stack of four, first", replace(none, stack=four)
    yield "another stack of four, first", replace(none, stack=four2)
    yield "stack of four, again", replace(none, stack=four)
    if SETTINGS[kind].header:
        yield "back to none", none
        return
    yield "rank 128, first", replace(none, stack=(("wide", 0.8),))
    yield "rank 128, strength", replace(none, stack=(("wide", 0.6),))
    yield "LoHa, first", replace(none, stack=(("loha", 0.8),))
    yield "LoHa, strength", replace(none, stack=(("loha", 0.6),))
    yield "back to none", none
    yield "another checkpoint", replace(none, checkpoint="other")
    yield "first checkpoint again, with A", a
    yield "back to none", none
    if kind == "real":
        yield "batch 4", replace(none, batch=4)
        yield "batch 4, LoRA A", replace(a, batch=4)
        yield "1536 px", replace(none, size=size * 3 // 2)
        yield "ControlNet", replace(none, control=True)
        yield "ControlNet, LoRA A", replace(a, control=True)
        yield "back to none", none


def one_of_each(size: int, kind: str) -> Iterator[tuple[str, Prompt]]:
    """Of `plan`, what ONE_OF_EACH names and this kind of model has."""
    prompts = dict(plan(size, kind))
    return ((name, prompts[name]) for name in ONE_OF_EACH if name in prompts)


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
