"""What the engines are doing, as text in the workflow."""

from __future__ import annotations

from ..report import status_text


class RefitEngineStatus:
    CATEGORY = "Refit"
    DESCRIPTION = "Tells whether the last run was served by an engine or by ComfyUI itself and why, the times of its refit and steps, and the state of all engines."
    SEARCH_ALIASES = ["engine state", "refit status", "tensorrt status"]
    FUNCTION = "report"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("report",)
    OUTPUT_TOOLTIPS = ("The report as text.",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"optional": {"after": ("*", {"tooltip": "Connect anything that has to be done first, for example the sampler's latent."})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        # Declared, so that ComfyUI accepts a link of any type to `after`.
        return True

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def report(self, after=None):
        text = status_text()
        return {"ui": {"text": [text]}, "result": (text,)}
