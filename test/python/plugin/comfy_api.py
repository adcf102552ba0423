"""Which of ComfyUI's names the plugin relies on, read from the plugin's source, and how they look in a ComfyUI checkout, read from its source.

    COMFYUI_DIR=... python test/python/plugin/comfy_api.py > test/python/plugin/comfy_api.json      records it anew
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

HOST = Path(__file__).resolve().parents[3] / "plugin" / "refit_sidecar_plugin" / "hosts" / "comfyui"
MODULES = ("comfy", "folder_paths", "server")
# `server` is also what the plugin calls the object; of that module only imports count.
CHAINS = ("comfy", "folder_paths")

# Attributes that the plugin reads or sets on ComfyUI's objects; no import shows them.
ATTRIBUTES = {
    "comfy.model_patcher.ModelPatcher": [
        "model", "patches", "patches_uuid", "object_patches", "weight_wrapper_patches", "injections", "additional_models", "attachments", "callbacks",
        "force_cast_weights", "hook_mode", "backup", "model_options", "load_device", "offload_device",
    ],
    "comfy.model_base.BaseModel": ["diffusion_model", "model_config", "current_patcher", "memory_required"],
    "comfy.samplers.CFGGuider": ["model_patcher", "conds", "model_options", "outer_sample"],
    "comfy.patcher_extension.WrapperExecutor": ["class_obj"],
    "server.PromptServer": ["last_node_id", "routes"],
}  # fmt: skip
# Methods that are called on ComfyUI's objects.
METHODS = {
    "comfy.model_patcher.ModelPatcher": [
        "clone", "model_state_dict", "add_wrapper_with_key", "set_attachments", "get_attachment", "register_all_hook_patches", "restore_hook_patches",
    ],
    "comfy.model_base.BaseModel": ["_apply_model"],
    "comfy.samplers.CFGGuider": ["outer_sample"],
    "comfy.patcher_extension.WrapperExecutor": ["execute", "new_class_executor"],
    "comfy.hooks.HookGroup": ["get_type"],
    "comfy.utils.ProgressBar": ["update_absolute"],
    "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel": ["forward"],
    "comfy.ldm.flux.model.Flux": ["forward"],
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": ["forward"],
    "server.PromptServer": ["add_on_prompt_handler", "send_sync", "send_progress_text"],
}  # fmt: skip


def used() -> set[str]:
    """Dotted names of ComfyUI's modules in the plugin's source."""
    out: set[str] = set()
    for path in sorted(HOST.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and (dotted := _dotted(node)) and dotted.split(".")[0] in CHAINS:
                out.add(dotted)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] in MODULES:
                out.update(f"{node.module}.{alias.name}" for alias in node.names)
    # A chain's inner parts come up as chains of their own.
    return {name for name in out if not any(other.startswith(name + ".") for other in out)}


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value)):
        return f"{inner}.{node.attr}"
    return None


class Source:
    """Names of a ComfyUI checkout, looked up without importing it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._trees: dict[Path, ast.Module] = {}

    def describe(self, dotted: str) -> object | None:
        """Parameters of a function or class, True for another name, None when it is not there."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            tree = self._module(parts[:length])
            if tree is not None:
                return True if length == len(parts) else self._inside(tree, parts[length:])
        return None

    def attributes(self, dotted: str) -> set[str]:
        """Names that a class sets on itself or defines."""
        found = self._class(dotted)
        names = {node.attr for node in ast.walk(found) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"}
        return names | {node.name for node in found.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}

    def method(self, dotted: str, name: str) -> list[str] | None:
        for node in self._class(dotted).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
                return _parameters(node)
        return None

    def _class(self, dotted: str) -> ast.ClassDef:
        module, name = dotted.rsplit(".", 1)
        tree = self._module(module.split("."))
        found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None) if tree else None
        if found is None:
            raise AssertionError(f"{dotted} is not there")
        return found

    def _module(self, parts: list[str]) -> ast.Module | None:
        for path in (self._root.joinpath(*parts).with_suffix(".py"), self._root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                if path not in self._trees:
                    self._trees[path] = ast.parse(path.read_text("utf-8"))
                return self._trees[path]
        return None

    def _inside(self, tree: ast.Module, names: list[str]) -> object | None:
        for node in _statements(tree.body):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == names[0]:
                return _parameters(node)
            if isinstance(node, ast.ClassDef) and node.name == names[0]:
                init = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
                return _parameters(init) if init and len(names) == 1 else True
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            if any(isinstance(target, ast.Name) and target.id == names[0] for target in targets):
                return True
            if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == names[0] for alias in node.names):
                return True
        return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those inside try and if included."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, (ast.If, ast.Try)):
                for inner in getattr(node, part, []):
                    yield from _statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return names + (["*"] if arguments.vararg else []) + (["**"] if arguments.kwarg else [])


def record(root: Path) -> dict[str, object]:
    source = Source(root)
    return {
        "names": {name: source.describe(name) for name in sorted(used())},
        "attributes": {name: sorted(wanted) for name, wanted in ATTRIBUTES.items()},
        "methods": {name: {method: source.method(name, method) for method in sorted(wanted)} for name, wanted in METHODS.items()},
    }


if __name__ == "__main__":
    json.dump(record(Path(os.environ["COMFYUI_DIR"])), sys.stdout, indent=1)
    print()
