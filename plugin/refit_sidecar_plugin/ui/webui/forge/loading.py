"""How Forge holds the checkpoint's weights: as its file has them, or rounded by a setting of the UI. An engine repeats the first, never the second."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from ...denoising import NotServed

WHOLE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WORDS = {torch.float8_e4m3fn: "fp8", torch.float8_e5m2: "fp8", torch.int8: "int8"}


def _settings() -> Any:
    """Forge Neo's and Forge's switches of the loaded model; None where a fork has none."""
    try:
        return getattr(importlib.import_module("backend.args"), "dynamic_args", None)
    except ModuleNotFoundError:
        return None


def _setting(name: str) -> Any:
    settings = _settings()
    # Forge has a dictionary, Neo a class that also answers to `get`.
    return None if settings is None else settings.get(name, None)


def refuse_storage(unet: Any) -> None:
    """Raises NotServed for weights that are no longer what the checkpoint's file says.

    Neo tells its ways of loading apart in `ops`: a name that ends in Int8 is its own rounding of a bf16 file, one that begins with Mixed is a file that is
    quantised layer by layer, which an engine reads as it is.
    """
    if _setting("nunchaku"):
        raise NotServed("a Nunchaku (SVDQ) model", "RUN_MODEL_CLASS")
    ops = str(_setting("ops") or "")
    if ops.endswith("Int8"):
        raise NotServed('"Diffusion in Low Bits" is int8: the UI rounds the checkpoint\'s weights itself', "RUN_SETTING")
    if ops.startswith("Mixed"):
        return
    stored = getattr(unet.model, "storage_dtype", torch.float32)
    if stored in WHOLE_DTYPES:
        return
    low_bits = _setting("forge_unet_storage_dtype")
    if low_bits is not None and low_bits == stored:
        raise NotServed(
            f'"Diffusion in Low Bits" is {WORDS.get(stored, stored)}: the UI rounds the checkpoint\'s weights itself', "RUN_SETTING"
        )
    raise NotServed(f"the checkpoint's weights are stored as {stored}", "RUN_SETTING")


def refuse_references(sd_model: Any) -> None:
    """Neo hands pictures to look at past the call, so that no argument tells of them."""
    given = [_setting("ref_latents"), _setting("concat_latent"), getattr(sd_model, "ref_latents", None)]
    if any(value is not None and (isinstance(value, torch.Tensor) or len(value) > 0) for value in given):
        raise NotServed("reference pictures (ImageStitch, Kontext, edit models)", "RUN_INPUT")
