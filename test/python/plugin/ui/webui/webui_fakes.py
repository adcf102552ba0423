"""Stand-ins for A1111's and Forge's modules, made from the recorded API: importing the plugin's part for them needs nothing that is not on the record.

Functions raise until a test replaces them. Classes that the plugin derives from or raises are real ones.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

RECORD = json.loads((Path(__file__).resolve().parents[5] / "plugin/refit_sidecar_plugin/ui/webui/recorded.json").read_text("utf-8"))


class InterruptedException(BaseException):
    """As in the UIs, no Exception: nothing but the sampler may swallow it."""


class SdUnet(torch.nn.Module):
    option: Any = None

    def activate(self) -> None:
        pass

    def deactivate(self) -> None:
        pass


CLASSES = {
    "modules.sd_samplers_common.InterruptedException": InterruptedException,
    "modules.sd_unet.SdUnet": SdUnet,
    "modules.sd_unet.SdUnetOption": type("SdUnetOption", (), {"model_name": None, "label": None}),
    "modules.scripts.Script": type("Script", (), {}),
}


def _module(name: str) -> types.ModuleType:
    if name not in sys.modules:
        made = types.ModuleType(name)
        made.__path__ = []
        sys.modules[name] = made
        if "." in name:
            parent, leaf = name.rsplit(".", 1)
            setattr(_module(parent), leaf, made)
    return sys.modules[name]


def _placeholder(dotted: str, described: object) -> object:
    if dotted in CLASSES:
        return CLASSES[dotted]
    if not isinstance(described, list):
        return None

    def missing(*_given: Any, **_named: Any) -> Any:
        raise AssertionError(f"the test reached {dotted} without replacing it")

    return missing


def install(models: Path) -> types.ModuleType:
    """Puts the stand-ins of both UIs into sys.modules, in their resting state, and gives `modules`."""
    for ui in ("A1111", "Forge"):
        for dotted, described in {
            **RECORD[ui]["names"],
            **{name: kind for names in RECORD[ui]["others"].values() for name, kind in names.items()},
        }.items():
            owner, leaf = dotted.rsplit(".", 1)
            if not owner.rsplit(".", 1)[-1][0].isupper():
                setattr(_module(owner), leaf, _placeholder(dotted, described))
    modules = sys.modules["modules"]
    modules.shared.state = SimpleNamespace(interrupted=False, skipped=False, stopping_generation=False, textinfo=None)
    modules.shared.opts = SimpleNamespace(lora_functional=False, sd_unet="Automatic")
    modules.shared.cmd_opts = SimpleNamespace(lora_dir=str(models / "Lora"), ckpt_dir=None, lowvram=False)
    modules.paths_internal.models_path = str(models)
    modules.extra_networks.extra_network_registry = {}
    modules.sd_models.checkpoints_list = {}
    modules.sd_unet.current_unet, modules.sd_unet.unet_options = None, []
    sys.modules["networks"].loaded_networks = []
    return modules


class Processing:
    """What the hooks see of a picture in the making."""

    def __init__(self, sd_model: Any) -> None:
        self.sd_model, self.comments, self.is_hr_pass = sd_model, [], False
        self.extra_network_data: dict[str, list[Any]] = {}

    def comment(self, text: str) -> None:
        self.comments.append(text)


def tag(*items: str) -> SimpleNamespace:
    """ExtraNetworkParams of one `<lora:...>` tag."""
    named = dict(item.split("=", 1) for item in items if "=" in item)
    return SimpleNamespace(items=list(items), positional=[item for item in items if "=" not in item], named=named)
