"""Mode B: finds out which checkpoint file a loaded MODEL is, so that an engine can hold the same weights."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import folder_paths
import torch

from ...files import Entry, HeaderError, read_header
from ..denoising.tensors import from_bytes, torch_dtype
from .classes import call_shape
from .sampling import install_beside, install_local
from .source import ATTACHMENT, FOLDERS, Source

# Elements compared at the start and in the middle of every parameter: a fine-tune or a merge of any layer shows.
COMPARED_ELEMENTS = 64
PREFIXES = ("model.diffusion_model.", "")


def accelerated_model(model: Any, prompt: dict[str, Any], node_id: str) -> Any:
    """A clone with an engine beside it. When no file can be found for it, a clone whose runs say why they are not on an engine."""
    if model.get_attachment(ATTACHMENT) is not None:
        return model
    shape = call_shape(model.model)
    if shape is None:
        return _ordinary(model, f"models of class {type(model.model).__name__} have no engine", prompt, node_id)
    parameters = _pristine(model)
    for folder, name, path in _candidates(prompt, node_id):
        if _same_weights(path, parameters, model.model.model_config):
            clone = model.clone()
            source = Source(path, folder, name)
            clone.set_attachments(ATTACHMENT, source)
            install_beside(clone, source, shape)
            return clone
    return _ordinary(model, "no checkpoint file holds this model's weights (merged or converted models have none)", prompt, node_id)


def _ordinary(model: Any, reason: str, prompt: dict[str, Any], node_id: str) -> Any:
    name = next(iter(_named_before(prompt, node_id)), type(model.model).__name__)
    clone = model.clone()
    install_local(clone, Source("", "", name), reason)
    return clone


def _candidates(prompt: dict[str, Any], node_id: str) -> Iterator[tuple[str, str, str]]:
    """Files that nodes before this one name, nearest first; then every other file."""
    seen: set[str] = set()
    for name in [*_named_before(prompt, node_id), *(name for folder in FOLDERS for name in folder_paths.get_filename_list(folder))]:
        for folder in FOLDERS:
            path = folder_paths.get_full_path(folder, name)
            if path and path not in seen:
                seen.add(path)
                yield folder, name, path


def _named_before(prompt: dict[str, Any], node_id: str) -> list[str]:
    listed = {name for folder in FOLDERS for name in folder_paths.get_filename_list(folder)}
    names: list[str] = []
    queue, seen = [node_id], set()
    while queue:
        current = queue.pop(0)
        node = prompt.get(current)
        if current in seen or not isinstance(node, dict):
            continue
        seen.add(current)
        for value in node.get("inputs", {}).values():
            if isinstance(value, list) and len(value) == 2:
                queue.append(str(value[0]))
            elif isinstance(value, str) and value.replace("/", os.sep) in listed:
                names.append(value.replace("/", os.sep))
    return names


def _pristine(model: Any) -> dict[str, torch.Tensor]:
    """The model's weights without the LoRA patches that a run may have left in them."""
    backup = {key: entry.weight for key, entry in model.backup.items()}
    return {name: backup.get(f"diffusion_model.{name}", value) for name, value in model.model.diffusion_model.state_dict().items()}


def _same_weights(path: str, parameters: dict[str, torch.Tensor], model_config: Any) -> bool:
    """Compares names and shapes of all parameters, then some values of each, converted to the model's dtype as the loader does."""
    try:
        entries = read_header(path).entries
        if Counter(tuple(value.shape) for value in parameters.values()) - Counter(entry.shape for entry in entries.values()):
            return False
        own = next((own for prefix in PREFIXES if (own := _loaded_names(entries, prefix, model_config)).keys() >= parameters.keys()), None)
        if own is None:
            return False
        pairs = [(own[name], value) for name, value in parameters.items()]
        if any(entry.shape != tuple(value.shape) for entry, value in pairs):
            return False
        with open(path, "rb") as file:
            return all(_same_values(file, entry, value) for entry, value in pairs)
    except (HeaderError, OSError):
        return False


def _loaded_names(entries: Mapping[str, Entry], prefix: str, model_config: Any) -> dict[str, Entry]:
    """The file's tensors behind this prefix by the names that ComfyUI loads them under: releases call some parameters otherwise than its modules do."""
    stored = {name.removeprefix(prefix): entry for name, entry in entries.items() if name.startswith(prefix)}
    stand_ins = {name: torch.empty(entry.shape, device="meta") for name, entry in stored.items()}
    entry_of = {id(stand_in): stored[name] for name, stand_in in stand_ins.items()}
    try:
        loaded = model_config.process_unet_state_dict(dict(stand_ins))
    except Exception:  # noqa: BLE001 - the file of another model: whatever the loader misses in it is its own business
        return {}
    return {name: entry_of[id(tensor)] for name, tensor in loaded.items() if id(tensor) in entry_of}


def _same_values(file: BinaryIO, entry: Entry, live: torch.Tensor) -> bool:
    dtype = torch_dtype(entry.dtype)
    if dtype is None:
        return False
    flat, count = live.detach().reshape(-1), live.numel()
    for start in {0, count // 2}:
        length = min(COMPARED_ELEMENTS, count - start)
        file.seek(entry.begin + start * dtype.itemsize)
        stored = from_bytes(file.read(length * dtype.itemsize), dtype, (length,)).to(live.dtype)
        if not torch.equal(stored, flat[start : start + length].to("cpu")):
            return False
    return True
