"""What the scripts share: their arguments, a pipeline from a folder or a small one, the arguments of a call."""

from __future__ import annotations

import argparse
from typing import Any, Callable, Sequence

import torch
from diffusers import DiffusionPipeline

from . import tiny


def arguments(description: str | None, given: Sequence[str] | None, adapters: int = 0) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", nargs="?", help="a diffusers folder or file")
    parser.add_argument("loras", nargs="*", help=f"{adapters} LoRA files" if adapters else argparse.SUPPRESS)
    parser.add_argument("--prompt", default="a lighthouse in a storm, oil painting")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default=None)
    parser.add_argument("--out", default=".")
    parser.add_argument("--tiny", action="store_true", help="a small random model instead")
    parser.add_argument("--port", type=int, default=0)
    found = parser.parse_args(given)
    if not found.tiny and found.model is None:
        parser.error("expected a model, or --tiny")
    if not found.tiny and len(found.loras) < adapters:
        parser.error(f"expected {adapters} LoRA files, got {len(found.loras)}")
    return found


def pipeline(args: argparse.Namespace, small: Callable[[], DiffusionPipeline]) -> DiffusionPipeline:
    if args.tiny:
        return small()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return DiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float16 if device == "cuda" else torch.float32).to(device)


def call(pipe: DiffusionPipeline, args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for one picture with a fixed seed."""
    same = {"generator": torch.Generator("cpu").manual_seed(args.seed), "num_inference_steps": args.steps or (2 if args.tiny else 20)}
    if args.tiny:
        return {**same, **tiny.prompt(pipe), "height": 16, "width": 16, "output_type": "latent"}
    return {**same, "prompt": args.prompt}
