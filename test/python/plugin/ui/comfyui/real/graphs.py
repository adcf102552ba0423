"""ComfyUI graphs in the API format, built from a few choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Link = list
#: ComfyUI's own way to load; stands for "Load Diffusion Model" where the file is one.
OWN_LOADER = "CheckpointLoaderSimple"


@dataclass
class Choices:
    loader: str = "RefitLoadEngine"
    checkpoint: str = "sd15_tiny.safetensors"
    adapters: Sequence[tuple[str, float]] = ()
    size: int = 64
    batch: int = 1
    steps: int = 4
    cfg: float = 5.0
    seed: int = 5
    tokens: int = 77
    # Where the checkpoint lies: files of "diffusion_models" have no text encoder and no VAE, and a loader of their own in ComfyUI.
    folder: str = "checkpoints"
    channels: int = 4
    # Width of the text context and, for SDXL's classes, of the pooled text.
    context: int = 768
    pooled: int = 0
    # Changes to the graph: (nodes, MODEL link) -> MODEL link, and the same for the positive conditioning and the latent.
    model: Callable[[dict, Link], Link] = lambda nodes, link: link
    positive: Callable[[dict, Link], Link] = lambda nodes, link: link
    latent: Callable[[dict, Link], Link] = lambda nodes, link: link
    extra: dict = field(default_factory=dict)


def node(class_type: str, **inputs: object) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def loader(choices: Choices) -> dict:
    if choices.loader == OWN_LOADER and choices.folder == "diffusion_models":
        return node("UNETLoader", unet_name=choices.checkpoint, weight_dtype="default")
    return node(choices.loader, ckpt_name=choices.checkpoint)


def graph(out: Path, choices: Choices) -> dict:
    """Four Euler steps (or `steps`) from random conditioning to a latent in `out`."""
    nodes = {
        "load": loader(choices),
        "pos": node("TestConditioning", seed=1, tokens=choices.tokens, width=choices.context, pooled=choices.pooled),
        "neg": node("TestConditioning", seed=2, tokens=choices.tokens, width=choices.context, pooled=choices.pooled),
        "empty": node(
            "EmptyLatentImage" if choices.channels == 4 else "EmptySD3LatentImage",
            width=choices.size,
            height=choices.size,
            batch_size=choices.batch,
        ),
        **choices.extra,
    }
    model: Link = ["load", 0]
    for index, (name, strength) in enumerate(choices.adapters):
        nodes[f"lora{index}"] = node("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=strength)
        model = [f"lora{index}", 0]
    nodes["sample"] = node(
        "KSampler", model=choices.model(nodes, model), seed=choices.seed, steps=choices.steps, cfg=choices.cfg, sampler_name="euler", scheduler="normal",
        positive=choices.positive(nodes, ["pos", 0]), negative=["neg", 0], latent_image=choices.latent(nodes, ["empty", 0]), denoise=1.0,
    )  # fmt: skip
    nodes["save"] = node("TestSaveLatent", samples=["sample", 0], path=str(out))
    nodes["status"] = node("RefitEngineStatus", after=["sample", 0])
    return nodes
