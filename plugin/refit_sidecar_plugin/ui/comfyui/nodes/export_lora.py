"""Writes a LoRA as it acts on one checkpoint, and has its delta computed, so that its first use is instant."""

from __future__ import annotations

from ..adapters import export_lora
from .inputs import STRENGTH, checkpoint_input, lora_input, source_of


class RefitExportLora:
    CATEGORY = "Refit"
    DESCRIPTION = (
        "Saves what a LoRA does to this checkpoint as a new LoRA file: only the layers that this checkpoint has, with the strength built in. "
        "No conversion is needed to use a LoRA; this is for sharing a tuned one, and for workflows that had a LoRA export step."
    )
    SEARCH_ALIASES = ["tensorrt lora export", "convert lora", "save lora", "refit"]
    FUNCTION = "export"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("lora_name",)
    OUTPUT_TOOLTIPS = ("Name of the new file, as the LoRA lists show it.",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        name = (
            "STRING",
            {
                "default": "exported",
                "tooltip": "Name of the new file in the first loras folder, without extension. An existing file is never overwritten: a number is added.",
            },
        )
        return {"required": {"ckpt_name": checkpoint_input(), "lora_name": lora_input(), "strength": STRENGTH, "name": name}}

    def export(self, ckpt_name, lora_name, strength, name):
        exported, report = export_lora(source_of(ckpt_name), lora_name, strength, name)
        return {"ui": {"text": [report]}, "result": (exported,)}
