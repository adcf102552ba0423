"""LoRA files of the loras folders: applied through ComfyUI's own functions, and written again as they act on one checkpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
import torch
from safetensors.torch import save

from ...checked.whole_file import replace_file
from ...files import Stamp, stamp
from ...stack import ContentItem, content_tensors
from ..denoising.tensors import Digests, from_bytes, torch_dtype
from .keys import key_map
from .patches import file_patches
from .source import Source
from .weightless import weightless_model

# Loaded adapter files by path. ComfyUI's LoraLoader keeps one per node for ever; this notices a rewritten file.
_loaded: dict[str, tuple[Stamp, dict[str, torch.Tensor]]] = {}
KEPT_FILES = 8


def lora_path(name: str) -> str:
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise FileNotFoundError(f"{name} is in none of the loras folders. Press R to refresh the lists, and choose a file.")
    return path


def apply_lora(model: Any, clip: Any, name: str, model_strength: float, clip_strength: float) -> tuple[Any, Any]:
    """As ComfyUI's LoraLoader, with the file as it is on disk now."""
    if model_strength == 0 and clip_strength == 0:
        return model, clip
    path = lora_path(name)
    now = stamp(path)
    known = _loaded.pop(path, None)
    if known is None or known[0] != now:
        known = (now, comfy.utils.load_torch_file(path, safe_load=True))
    _loaded[path] = known  # pyright: ignore[reportArgumentType]  a file that is gone has failed above
    while len(_loaded) > KEPT_FILES:
        _loaded.pop(next(iter(_loaded)))
    return comfy.sd.load_lora_for_models(model, clip, known[1], model_strength, clip_strength)


def export_lora(source: Source, name: str, strength: float, new_name: str) -> tuple[str, str]:
    """Returns the new file's name in the lists and a report. Parts that take the strength linearly carry it; other kinds are refused."""
    model = weightless_model(source).model
    patches = file_patches(lora_path(name), key_map(model), model.diffusion_model.meta_parameters, Digests())
    if not patches:
        raise ValueError(
            f"{name} has no layer that {source.name} has: it was made for another model family. Choose a LoRA for this checkpoint."
        )
    tensors: dict[str, torch.Tensor] = {}
    for key, dtype, shape, data in content_tensors(ContentItem(tuple(patches), 1.0)):
        tensor = from_bytes(data, torch_dtype(dtype) or torch.float32, shape)
        tensors[key] = _with_strength(key, tensor, strength)
    folder = folder_paths.get_folder_paths("loras")[0]
    file = _free_name(folder, new_name)
    os.makedirs(folder, exist_ok=True)
    replace_file(Path(folder) / file, save(tensors, {"refit_source": os.path.basename(name), "refit_strength": repr(strength)}))
    return file, f"Saved {file}: {len(patches)} layers of {source.name}, strength {strength:g} built in."


# The one factor per kind in which the delta is linear.
_LINEAR = re.compile(r"\.(lora_up\.weight|hada_w1_a|lokr_w1|lokr_w1_a|diff)$")
_NOT_LINEAR = re.compile(r"\.(dora_scale|oft_blocks|a1\.weight|set_weight)$")


def _with_strength(key: str, tensor: torch.Tensor, strength: float) -> torch.Tensor:
    if strength != 1.0 and _NOT_LINEAR.search(key):
        raise ValueError(
            "This LoRA is of a kind (DoRA, OFT, GLoRA or a replaced weight) that cannot carry a strength. Export it with strength 1."
        )
    return (tensor.float() * strength).to(tensor.dtype) if _LINEAR.search(key) else tensor


def _free_name(folder: str, wanted: str) -> str:
    stem = re.sub(r"[^\w .()+-]", "_", wanted.removesuffix(".safetensors")).strip(" .") or "exported"
    for number in range(1000):
        file = f"{stem}.safetensors" if number == 0 else f"{stem}-{number}.safetensors"
        if not os.path.exists(os.path.join(folder, file)):
            return file
    raise FileExistsError(f"There are a thousand files named {stem} already. Choose another name.")
