"""Builds or loads an engine ahead of its first use, for a range of sizes."""

from __future__ import annotations

from ....engine import Range, Wanted
from .. import negotiation
from .inputs import PRECISIONS, checkpoint_input, source_of

_WHAT = {
    "batch": "images per batch (conditional and unconditional parts count extra)",
    "height": "pixels",
    "width": "pixels",
    "tokens": "tokens of the prompt (77 per chunk)",
}
_SIZES = {
    "batch": (1, 2, 4, 1, 64, 1),
    "height": (512, 1024, 1024, 64, 8192, 64),
    "width": (512, 1024, 1024, 64, 8192, 64),
    "tokens": (77, 77, 231, 1, 4096, 1),
}
PIXELS_PER_CELL = 8


def _size_inputs() -> dict[str, tuple]:
    out = {}
    for name, (low, usual, high, minimum, maximum, step) in _SIZES.items():
        for position, value in (("min", low), ("opt", usual), ("max", high)):
            meaning = {"min": "Smallest", "opt": "Usual (fastest)", "max": "Largest"}[position]
            out[f"{name}_{position}"] = (
                "INT",
                {"default": value, "min": minimum, "max": maximum, "step": step, "tooltip": f"{meaning} {name}, in {_WHAT[name]}."},
            )
    return out


class RefitWarmEngine:
    CATEGORY = "Refit"
    DESCRIPTION = (
        "Gets an engine ready before it is needed, for a range of sizes. Weights are not part of it: "
        "it serves every checkpoint of this structure and every LoRA."
    )
    SEARCH_ALIASES = ["tensorrt conversion", "build engine", "static model", "dynamic model", "refit"]
    FUNCTION = "warm"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("report",)
    OUTPUT_TOOLTIPS = ("What was done and how long it took.",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        precision = (list(PRECISIONS), {"default": "auto", "tooltip": "Number format of the engine's weights. auto: fp16 on a GPU, fp32 on a CPU."})
        return {"required": {"ckpt_name": checkpoint_input(), **_size_inputs(), "precision": precision}}

    def warm(self, ckpt_name, precision, **sizes):
        profile = {}
        for name in _SIZES:
            scale = PIXELS_PER_CELL if name in ("height", "width") else 1
            size = Range(*(sizes[f"{name}_{position}"] // scale for position in ("min", "opt", "max")))
            if not size.min <= size.opt <= size.max:
                raise ValueError(f"{name}: expected min <= opt <= max, got {size.min * scale}, {size.opt * scale}, {size.max * scale}")
            profile[name] = size
        source = source_of(ckpt_name)
        text = negotiation.warm(Wanted(negotiation.checkpoint_id(source), (), precision=precision, profile=profile), source.name)
        return {"ui": {"text": [text]}, "result": (text,)}
