"""Loader nodes: a MODEL without diffusion weights, with CLIP and VAE from the same file as ComfyUI's own loader gives them."""

from __future__ import annotations

import comfy.sd
import folder_paths

from ..adapters import apply_lora
from ..freshness import freshness_of
from ..weightless import engine_model
from .inputs import STRENGTH, checkpoint_fingerprint, checkpoint_input, file_fingerprint, lora_input, settings_inputs, source_of


class RefitLoadEngine:
    CATEGORY = "Refit"
    DESCRIPTION = "Loads a checkpoint onto an engine. Use it in place of Load Checkpoint; every LoRA loader, sampler and preview behind it keeps working."
    SEARCH_ALIASES = ["tensorrt loader", "checkpoint", "engine", "refit", "accelerate", "lora without rebuild"]
    FUNCTION = "load"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    OUTPUT_TOOLTIPS = ("The diffusion model, served by an engine.", "The text encoder of the checkpoint.", "The VAE of the checkpoint.")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt_name": checkpoint_input()}, "optional": settings_inputs()}

    @classmethod
    def IS_CHANGED(cls, ckpt_name, **_):
        return f"{checkpoint_fingerprint(ckpt_name)}|{freshness_of(ckpt_name)}"

    def load(self, ckpt_name, host="auto", precision="auto", **_):
        source = source_of(ckpt_name, host, precision)
        model = engine_model(source)
        if source.folder != "checkpoints":
            return (model, None, None)
        clip, vae = comfy.sd.load_checkpoint_guess_config(
            source.path, output_model=False, embedding_directory=folder_paths.get_folder_paths("embeddings")
        )[1:3]
        return (model, clip, vae)


class RefitLoadEngineLora(RefitLoadEngine):
    DESCRIPTION = "Loads a checkpoint with one LoRA onto an engine. A LoRA file that is rewritten on disk is used from the next run on."
    SEARCH_ALIASES = ["tensorrt lora", "engine lora", "refit"]

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"ckpt_name": checkpoint_input(), "lora_name": lora_input(), "strength": STRENGTH},
            "optional": settings_inputs(),
        }

    @classmethod
    def IS_CHANGED(cls, ckpt_name, lora_name, **_):  # pyright: ignore[reportIncompatibleMethodOverride]  ComfyUI calls a node by its own inputs
        return f"{checkpoint_fingerprint(ckpt_name)}|{freshness_of(ckpt_name)}|{file_fingerprint('loras', lora_name)}"

    def load(self, ckpt_name, lora_name, strength, **settings):  # pyright: ignore[reportIncompatibleMethodOverride]  as above
        model, clip, vae = super().load(ckpt_name, **settings)
        return (*apply_lora(model, clip, lora_name, strength, strength), vae)


class RefitLoadEngineStacked(RefitLoadEngine):
    DESCRIPTION = "Loads a checkpoint with a stack of LoRAs onto an engine. Takes the LORA_STACK of this pack and of other stack nodes."
    SEARCH_ALIASES = ["tensorrt lora stack", "engine lora stack", "refit"]

    @classmethod
    def INPUT_TYPES(cls):
        stack = ("LORA_STACK", {"tooltip": "LoRAs in order, each with its strengths."})
        return {"required": {"ckpt_name": checkpoint_input(), "lora_stack": stack}, "optional": settings_inputs()}

    def load(self, ckpt_name, lora_stack, **settings):  # pyright: ignore[reportIncompatibleMethodOverride]  as above
        model, clip, vae = super().load(ckpt_name, **settings)
        for lora_name, model_strength, clip_strength in lora_stack or ():
            model, clip = apply_lora(model, clip, lora_name, model_strength, clip_strength)
        return (model, clip, vae)
