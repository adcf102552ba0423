"""A list of LoRAs as data; the format that other stack nodes use too: (name, model strength, CLIP strength)."""

from __future__ import annotations

from .inputs import STRENGTH, file_fingerprint, lora_input


class RefitLoraStack:
    CATEGORY = "Refit"
    DESCRIPTION = "Adds a LoRA to a stack. Chain several; the order is kept."
    SEARCH_ALIASES = ["lora stacker", "multi lora", "refit"]
    FUNCTION = "stack"
    RETURN_TYPES = ("LORA_STACK",)
    OUTPUT_TOOLTIPS = ("The stack with this LoRA at its end.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"lora_name": lora_input(), "strength": STRENGTH},
            "optional": {"lora_stack": ("LORA_STACK", {"tooltip": "LoRAs that come before this one."})},
        }

    @classmethod
    def IS_CHANGED(cls, lora_name, **_):
        return file_fingerprint("loras", lora_name)

    def stack(self, lora_name, strength, lora_stack=None):
        return ([*(lora_stack or ()), (lora_name, strength, strength)],)
