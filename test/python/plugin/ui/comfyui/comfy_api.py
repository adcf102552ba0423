"""Which of ComfyUI's names, attributes and calls the plugin relies on, read from the plugin's source, and what a ComfyUI checkout has of them, read
from its source. Facts only: names and parameters, no code.

    COMFYUI_DIR=... python test/python/plugin/ui/comfyui/comfy_api.py      writes bind/comfyui-VERSION.json anew
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refit_sidecar_plugin.ui.source_facts import Source

HERE = Path(__file__).resolve().parent
UI = HERE.parents[4] / "plugin" / "refit_sidecar_plugin" / "ui" / "comfyui"
RECORDS = HERE / "bind"
MODULES = ("comfy", "comfy_execution", "folder_paths", "server")
# `server` is also what the plugin calls the object; of that module only imports count.
CHAINS = ("comfy", "comfy_execution", "folder_paths")

# What the plugin calls ComfyUI's objects, wherever it does. A variable of one of these names is one of that class.
OBJECTS = {
    "patcher": "comfy.model_patcher.ModelPatcher",
    "weightless": "comfy.model_patcher.ModelPatcher",
    "twin": "comfy.model_patcher.ModelPatcher",
    "guider": "comfy.samplers.CFGGuider",
    "executor": "comfy.patcher_extension.WrapperExecutor",
    "registered": "comfy.hooks.HookGroup",
    "bar": "comfy.utils.ProgressBar",
}
# Attributes that are set on our objects, of another class than the one above.
OWN = {"comfy.model_patcher.ModelPatcher": {"become_ordinary", "cached_patcher_init", "__dict__"}}
# What only newer versions have, and only they come to: name, and the first recorded version that has it.
NEWER = {"comfy.model_patcher.ModelPatcher": {"state_dict_for_saving": "0.33.0"}}
# Classes whose methods the plugin's own classes take the place of: a run goes through these parameters.
OVERRIDDEN = {
    "comfy.model_patcher.ModelPatcher": ["get_key_patches", "partially_load", "clone", "pre_run", "cleanup"],
    "comfy.samplers.CFGGuider": ["outer_sample"],
    "comfy.model_base.BaseModel": ["_apply_model"],
    "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel": ["forward"],
    "comfy.ldm.flux.model.Flux": ["forward"],
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": ["forward"],
    "server.PromptServer": ["add_on_prompt_handler", "send_sync"],
}
# What no variable's name shows.
ATTRIBUTES = {
    "comfy.model_base.BaseModel": ["diffusion_model", "model_config", "current_patcher", "memory_required", "apply_model"],
    "comfy.conds.CONDRegular": ["cond", "_copy_with"],
    "server.PromptServer": ["last_node_id", "routes", "prompt_queue"],
    "execution.PromptQueue": ["get_current_queue_volatile"],
}


@dataclass(frozen=True)
class CallSite:
    """A call in the plugin's source: of a module's name, or of a method (`Class.method`) of an object."""

    target: str
    method: bool
    positional: int
    keywords: tuple[str, ...]
    where: str


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(UI.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def used() -> set[str]:
    """Dotted names of ComfyUI's modules in the plugin's source."""
    out: set[str] = set()
    for _, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (dotted := _dotted(node)) and dotted.split(".")[0] in CHAINS:
                out.add(dotted)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] in MODULES:
                out.update(f"{node.module}.{alias.name}" for alias in node.names)
    # A chain's inner parts come up as chains of their own.
    return {name for name in out if not any(other.startswith(name + ".") for other in out)}


def used_attributes() -> dict[str, set[str]]:
    """Names taken from ComfyUI's objects."""
    out: dict[str, set[str]] = {owner: set(names) for owner, names in ATTRIBUTES.items()}
    for _, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in OBJECTS:
                owner = OBJECTS[node.value.id]
                if node.attr not in OWN.get(owner, ()):
                    out.setdefault(owner, set()).add(node.attr)
    return out


def calls() -> list[CallSite]:
    """Calls whose arguments are all in sight (no `*args`)."""
    out = []
    for path, tree in _trees():
        for node in ast.walk(tree):
            if (
                not isinstance(node, ast.Call)
                or any(isinstance(one, ast.Starred) for one in node.args)
                or any(one.arg is None for one in node.keywords)
            ):
                continue
            if not isinstance(node.func, ast.Attribute):
                continue
            where, keywords = f"{path.name}:{node.lineno}", tuple(str(one.arg) for one in node.keywords)
            dotted = _dotted(node.func) or ""
            if dotted.split(".")[0] in CHAINS:
                out.append(CallSite(dotted, False, len(node.args), keywords, where))
            elif (
                isinstance(node.func.value, ast.Name)
                and node.func.value.id in OBJECTS
                and node.func.attr not in OWN.get(OBJECTS[node.func.value.id], ())
            ):
                out.append(CallSite(f"{OBJECTS[node.func.value.id]}.{node.func.attr}", True, len(node.args), keywords, where))
    return out


def binds(parameters: list[str], site: CallSite) -> bool:
    """Whether a function of these recorded parameters takes the call."""
    named = [name for name in parameters if name not in ("*", "**")]
    if (site.method or named[:1] == ["self"]) and named[:1] in (["self"], ["cls"]):
        named = named[1:]
    free = named[: next((index for index, name in enumerate(named) if name.startswith("!")), len(named))]
    names = {name.strip("!=") for name in named}
    if site.positional > len(free) and "*" not in parameters:
        return False
    if "**" not in parameters and not set(site.keywords) <= names:
        return False
    given = {name.strip("!=") for name in free[: site.positional]} | set(site.keywords)
    return all(name.endswith("=") or name.strip("!=") in given for name in named)


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value)):
        return f"{inner}.{node.attr}"
    return None


def version_of(root: Path) -> str:
    found = re.search(r'__version__ = "([^"]+)"', (root / "comfyui_version.py").read_text("utf-8"))
    assert found
    return found[1]


def record(root: Path) -> dict[str, object]:
    source = Source(root)
    attributes = used_attributes()
    methods: dict[str, set[str]] = {owner: set(names) for owner, names in OVERRIDDEN.items()}
    for site in calls():
        if site.method:
            owner, name = site.target.rsplit(".", 1)
            methods.setdefault(owner, set()).add(name)
    return {
        "version": version_of(root),
        "names": {name: source.describe(name) for name in sorted(used())},
        "attributes": {
            owner: {name: name in source.attributes(owner) for name in sorted(wanted)} for owner, wanted in sorted(attributes.items())
        },
        "methods": {
            owner: {method: source.method(owner, method) for method in sorted(wanted)} for owner, wanted in sorted(methods.items())
        },
    }


if __name__ == "__main__":
    facts = record(Path(os.environ["COMFYUI_DIR"]))
    (RECORDS / f"comfyui-{facts['version']}.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
