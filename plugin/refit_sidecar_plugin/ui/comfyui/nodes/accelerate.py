"""Mode B: a MODEL that keeps its weights, with an engine beside it."""

from __future__ import annotations

from ..model_file import accelerated_model


class RefitAccelerateModel:
    CATEGORY = "Refit"
    DESCRIPTION = (
        "Runs any loaded MODEL on an engine where it can, and in ComfyUI where it cannot (attention patches, IPAdapter, hook LoRAs, unknown models). "
        "The model's own weights stay loaded; Load Engine needs less memory."
    )
    SEARCH_ALIASES = ["tensorrt", "accelerate", "speed up", "compile", "refit"]
    FUNCTION = "accelerate"
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The same model, with an engine beside it.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": ("MODEL", {"tooltip": "Any model. Its checkpoint must be a safetensors file in a models folder."})},
            "hidden": {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"},
        }

    def accelerate(self, model, prompt=None, unique_id=None):
        return (accelerated_model(model, prompt or {}, str(unique_id)),)
