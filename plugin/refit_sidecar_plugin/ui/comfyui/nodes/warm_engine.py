"""Builds or loads an engine ahead of its first use."""

from __future__ import annotations

from ....engine import Wanted
from .. import negotiation
from .inputs import checkpoint_input, precision_input, source_of


class RefitWarmEngine:
    CATEGORY = "Refit"
    DESCRIPTION = "Gets an engine ready before it is needed. Weights are not part of it: it serves every checkpoint of this structure, every LoRA and every size."
    SEARCH_ALIASES = ["tensorrt conversion", "build engine", "static model", "dynamic model", "refit"]
    FUNCTION = "warm"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("report",)
    OUTPUT_TOOLTIPS = ("That the engine is ready.",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt_name": checkpoint_input()}, "optional": {"precision": precision_input()}}

    def warm(self, ckpt_name, precision="auto", **_):
        source = source_of(ckpt_name)
        text = negotiation.warm(Wanted(negotiation.checkpoint_id(source), (), precision=precision), source.name)
        return {"ui": {"text": [text]}, "result": (text,)}
