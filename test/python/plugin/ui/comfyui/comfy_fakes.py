"""Stand-ins for ComfyUI's modules, made from the recorded API: importing the plugin's ComfyUI host needs nothing that is not on the record.

Functions raise until a test replaces them; classes are empty; values are placeholders.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

# The stand-ins look like the oldest supported version.
RECORD = json.loads((Path(__file__).parent / "bind" / "comfyui-0.3.64.json").read_text("utf-8"))


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
    leaf = dotted.rsplit(".", 1)[1]
    if leaf[0].isupper() and not leaf.isupper():
        return type(leaf, (), {"__init__": lambda self, *given, **named: None})
    if isinstance(described, list):

        def missing(*_given, **_named):
            raise AssertionError(f"the test reached {dotted} without replacing it")

        return missing
    return leaf


class Cond:
    """As ComfyUI's CONDRegular and its kind."""

    def __init__(self, cond: object) -> None:
        self.cond = cond

    def _copy_with(self, cond: object) -> Cond:
        return type(self)(cond)


def install() -> None:
    """Puts the stand-ins into sys.modules. For one test process: there is no way back."""
    for dotted, described in sorted(RECORD["names"].items()):
        module, leaf = dotted.rsplit(".", 1)
        owner: object
        if module.rsplit(".", 1)[-1][0].isupper():
            # A member of a class or an enumeration.
            outer, name = module.rsplit(".", 1)
            owner = getattr(_module(outer), name, None) or type(name, (), {})
            setattr(_module(outer), name, owner)
        else:
            owner = _module(module)
        if not hasattr(owner, leaf):
            setattr(owner, leaf, _placeholder(dotted, described))
    # ComfyUI's own web server; the tests' environment has none.
    _module("aiohttp.web")
    sys.modules["comfy.model_management"].OOM_EXCEPTION = MemoryError
    lists = {"loras": ["a.safetensors", "b.pt"], "checkpoints": ["base.safetensors", "old.ckpt"]}
    sys.modules["folder_paths"].get_filename_list = lambda folder: lists.get(folder, [])
    sys.modules["folder_paths"].get_full_path = lambda folder, name: None
    sys.modules["server"].PromptServer.instance = None
