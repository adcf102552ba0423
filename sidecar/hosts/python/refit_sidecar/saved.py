"""RefitModule on disk: one folder-less file (zip) with the weights as safetensors, the structure, and compiled code. In: a module. Out: the module, ready
without a build. Never: a structure or code that others could have written, an engine for another device.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import pickle
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import safetensors.torch
import torch
from refit_host.checked.whole_file import replace_file
from torch import nn

from .copying import engine_module
from .snapshot import take

if TYPE_CHECKING:
    from .module import RefitModule

FORMAT_VERSION = 1
PARTS = ("weights.safetensors", "structure", "code")


class SavedModuleError(Exception):
    """Why a saved module is not loaded, in one line that says what to do."""


def _device_name(device: torch.device) -> str:
    return "cpu" if device.type != "cuda" else f"cuda {torch.cuda.get_device_properties(device).name}"


def save(module: "RefitModule", path: Path) -> Path:
    """Written beside the path and renamed into place. Adapters that PEFT holds are saved merged into the weights, as the engine has them.

    Raises SavedModuleError for a path that holds anything but an earlier saved module.
    """
    _require_place(path)
    core = module._refit
    now = take(module)
    from .weights import LiveWeights

    weights = core._weights
    # In the module's own number format, whatever the engine's is: it is the module that comes back, and its engine rounds anew.
    if weights is None or core.options.dtype is not None or core.state.value != "LIVE":
        weights = LiveWeights(now, next(iter(now.tensors.values())).device, None)
        weights.refit(now)
        now = take(module)
    values = {name: weights.parameter(name).detach().to("cpu", copy=True).contiguous() for name in now.tensors}
    options = {
        name: getattr(core.options, name)
        for name in ("precision", "tier", "mode", "offload_module_to_cpu", "cache_built_engines", "reuse_cached_engines")
    }
    structure, kind = _structure(module, now)
    code = torch.compiler.save_cache_artifacts() if "compiled" in core.tier else None
    parts = {"weights.safetensors": safetensors.torch.save(values), "structure": structure, "code": b"" if code is None else code[0]}
    device = next(iter(now.tensors.values())).device if core._runner is None else core._device(now)
    head = {
        "formatVersion": FORMAT_VERSION, "structure": kind, "class": [core.original_class.__module__, core.original_class.__qualname__], "options": options,
        "device": _device_name(device), "torch": torch.__version__, "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as out:
            out.writestr("refit.json", json.dumps(head))
            for name, data in parts.items():
                out.writestr(name, data)

    replace_file(path, write, 0o600)
    return path


def _require_place(path: Path) -> None:
    """Only an earlier saved module, or an empty file, is replaced: never somebody's checkpoint, and never a device, which a rename would take away."""
    if not path.exists():
        return
    if not path.is_file():
        raise SavedModuleError(f"expected a file to write: {path.name} is a folder, a device or a pipe; choose another name")
    if path.stat().st_size == 0:
        return
    try:
        with zipfile.ZipFile(path) as there:
            if "refit.json" in there.namelist():
                return
    except (OSError, zipfile.BadZipFile):
        pass
    raise SavedModuleError(f"{path.name} is there and is no saved module; it would be lost. Choose another name, or remove it first")


def _structure(module: "RefitModule", now: Any) -> tuple[bytes, str]:
    """A diffusers module is its class and configuration; any other module is pickled, its tensors left out."""
    config = getattr(module, "config", None)
    if config is not None and hasattr(module._refit.original_class, "from_config"):
        return json.dumps(
            {key: value for key, value in dict(config).items() if not key.startswith("_") or key == "_class_name"}, default=str
        ).encode(), "config"
    empty = engine_module(module, module._refit.original_class, now, lambda name: torch.empty_like(now.tensors[name], device="meta"))
    out = io.BytesIO()
    pickle.dump(empty, out)
    return out.getvalue(), "pickle"


def load(path: Path) -> "RefitModule":
    """Raises SavedModuleError."""
    from .module import RefitModule

    head, parts = _read(path)
    device = torch.device("cuda") if head["device"].startswith("cuda") else torch.device("cpu")
    if device.type == "cuda" and (not torch.cuda.is_available() or _device_name(torch.device("cuda", 0)) != head["device"]):
        raise SavedModuleError(f"{path.name} was saved on {head['device']}, which is not here; load the original model and wrap it again")
    if head["torch"].partition("+")[0].rpartition(".")[0] != torch.__version__.partition("+")[0].rpartition(".")[0]:
        raise SavedModuleError(
            f"{path.name} was saved with PyTorch {head['torch']}, this is {torch.__version__}; load the original model and wrap it again"
        )
    module = _module(path, head, parts["structure"])
    values = safetensors.torch.load(parts["weights.safetensors"])
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in values.items():
        owner, _, leaf = name.rpartition(".")
        place = module.get_submodule(owner)
        if leaf in place._parameters:
            place._parameters[leaf] = nn.Parameter(tensor.to(device), requires_grad=False)
        elif leaf in place._buffers:
            place._buffers[leaf] = tensor.to(device)
        else:
            raise SavedModuleError(
                f"{path.name}: {name} fits no parameter of {head['class'][1]}; it was written by another version of that class"
            )
    left = [name for name, tensor in named.items() if name not in values and tensor.is_meta]
    if left:
        raise SavedModuleError(f"{path.name} lacks {left[0]}, which {head['class'][1]} has here; load the original model and wrap it again")
    if parts["code"]:
        torch.compiler.load_cache_artifacts(parts["code"])
    return RefitModule(module.eval(), **head["options"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        info = path.stat()
    except OSError as error:
        raise SavedModuleError(f"there is no file {path.name}") from error
    if hasattr(os, "getuid") and (info.st_uid not in (os.getuid(), 0) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise SavedModuleError(
            f"{path.name} can be written by others, and a saved module can run code; give it to this user alone (chmod 600)"
        )
    try:
        with zipfile.ZipFile(path) as file:
            head = json.loads(file.read("refit.json"))
            if head.get("formatVersion") != FORMAT_VERSION:
                raise SavedModuleError(f"{path.name} has format {head.get('formatVersion')}, expected {FORMAT_VERSION}; save it again")
            parts = {name: file.read(name) for name in PARTS}
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise SavedModuleError(f"{path.name} is no saved RefitModule, or a damaged one ({type(error).__name__})") from error
    for name, data in parts.items():
        if hashlib.sha256(data).hexdigest() != head["sha256"].get(name):
            raise SavedModuleError(f"{path.name} is damaged: {name} is not what was saved")
    return head, parts


def _module(path: Path, head: dict[str, Any], structure: bytes) -> nn.Module:
    if head["structure"] == "pickle":
        try:
            return pickle.loads(structure)
        except Exception as error:  # a class that moved, changed or is not installed raises anything
            raise SavedModuleError(
                f"{path.name}: its class {'.'.join(head['class'])} cannot be made here ({type(error).__name__}: {error})"
            ) from error
    where, name = head["class"]
    try:
        kind = getattr(importlib.import_module(where), name)
    except (ImportError, AttributeError) as error:
        raise SavedModuleError(f"{path.name}: its class {where}.{name} is not installed here") from error
    with torch.device("meta"):
        module = kind.from_config(json.loads(structure))
    return _with_buffers(module, kind, structure)


def _with_buffers(module: nn.Module, kind: Any, structure: bytes) -> nn.Module:
    """Tables that a class computes when it is made (rotary positions) are no saved values: where there are any, it is made once more with them."""
    if not any(tensor.is_meta for tensor in vars_of(module)):
        return module
    return kind.from_config(json.loads(structure))


def vars_of(module: nn.Module) -> list[torch.Tensor]:
    """Tensors that modules hold as plain attributes."""
    return [value for each in module.modules() for value in vars(each).values() if isinstance(value, torch.Tensor)]
