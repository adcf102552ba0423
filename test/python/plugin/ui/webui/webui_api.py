"""Which names of A1111, Forge and reForge the plugin relies on, read from the plugin's source, and how they look in a checkout, read from its source.

WEBUI_DIR=... FORGE_DIR=... REFORGE_DIR=... python test/python/plugin/ui/webui/webui_api.py > plugin/refit_sidecar_plugin/ui/webui/recorded.json    records them anew

It prints what belongs into the families' descriptions (`recorded`) beside it.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path

from refit_sidecar_plugin.families import family_calls
from refit_sidecar_plugin.ui.source_facts import Source

HERE = Path(__file__).resolve().parent
PLUGIN = HERE.parents[4] / "plugin"
UI = PLUGIN / "refit_sidecar_plugin" / "ui" / "webui"
VARIABLES = {"A1111": "WEBUI_DIR", "Forge": "FORGE_DIR", "reForge": "REFORGE_DIR", "Forge Neo": "FORGE_NEO_DIR"}
# Folders of the plugin that never run in a UI.
FOREIGN = {"A1111": "forge", "Forge": "a1111", "reForge": "a1111", "Forge Neo": "a1111"}

# What is reached by other ways than `from modules import`: a module's folder in the checkout ("" is its root), and names in it.
_MANAGER = ["load_models_gpu", "free_memory", "soft_empty_cache", "get_free_memory", "get_torch_device"]
OTHERS = {
    "A1111": {
        "extensions-builtin/Lora": ["networks.loaded_networks"],
        "": ["modules.processing.StableDiffusionProcessing.comment"],
    },
    "Forge": {
        "extensions-builtin/sd_forge_lora": ["networks.load_lora_state_dict"],
        "": [f"backend.memory_management.{name}" for name in _MANAGER]
        + [
            "backend.patcher.lora.load_lora",
            "backend.patcher.lora.model_lora_keys_unet",
            "modules.processing.StableDiffusionProcessing.comment",
        ],
    },
    "Forge Neo": {
        "extensions-builtin/sd_forge_lora": ["networks.load_lora_state_dict"],
        "": [f"backend.memory_management.{name}" for name in _MANAGER]
        + [
            "backend.args.dynamic_args",
            "backend.patcher.lora.load_lora",
            "backend.patcher.lora.model_lora_keys_unet",
            "modules_forge.forge_version.version",
            "modules.processing.StableDiffusionProcessing.comment",
        ],
    },
    "reForge": {
        "extensions-builtin/Lora": ["networks.load_lora_state_dict"],
        "": [f"ldm_patched.modules.model_management.{name}" for name in _MANAGER]
        + [
            "ldm_patched.modules.lora.load_lora",
            "ldm_patched.modules.lora.model_lora_keys_unet",
            "modules.processing.StableDiffusionProcessing.comment",
        ],
    },
}
_HOOKS = ["before_process", "after_extra_networks_activate", "post_sample", "postprocess", "title", "show", "ui"]
_STATE = {"modules.shared_state.State": ["interrupted", "skipped", "textinfo"]}
_FORGE = {
    "modules.sd_models.CheckpointInfo": ["filename"],
    "backend.patcher.unet.UnetPatcher": ["controlnet_linked_list"],
    "backend.modules.k_model.KModel": ["diffusion_model", "storage_dtype"],
}
_PARAMS = {"modules.extra_networks.ExtraNetworkParams": ["positional", "named"]}
# Methods that are overridden or called, by class.
METHODS = {
    "A1111": {
        "": {
            "modules.scripts.Script": _HOOKS,
            "modules.sd_unet.SdUnet": ["forward", "activate", "deactivate"],
            "modules.sd_unet.SdUnetOption": ["create_unet"],
        }
    },
    "Forge": {
        "": {
            "modules.scripts.Script": [*_HOOKS, "process_before_every_sampling"],
            "backend.patcher.unet.UnetPatcher": ["clone", "set_memory_peak_estimation_modifier"],
            "backend.patcher.base.ModelPatcher": ["set_model_unet_function_wrapper", "memory_required"],
            "backend.modules.k_model.KModel": ["apply_model"],
        }
    },
    "Forge Neo": {
        "": {
            "modules.scripts.Script": [*_HOOKS, "process_before_every_sampling"],
            "backend.patcher.unet.UnetPatcher": ["clone"],
            "backend.patcher.base.ModelPatcher": ["set_model_unet_function_wrapper", "memory_required"],
            "backend.modules.k_model.KModel": ["apply_model"],
        }
    },
    "reForge": {
        "": {
            "modules.scripts.Script": [*_HOOKS, "process_before_every_sampling"],
            "modules_forge.unet_patcher.UnetPatcher": ["clone", "set_memory_peak_estimation_modifier"],
            "ldm_patched.modules.model_patcher.ModelPatcher": ["set_model_unet_function_wrapper", "memory_required"],
            "ldm_patched.modules.model_base.BaseModel": ["_apply_model"],
        }
    },
}
# Attributes that are read or set on the UI's objects.
ATTRIBUTES = {
    "A1111": {
        "": {**_STATE, **_PARAMS, "modules.sd_models.CheckpointInfo": ["filename", "model_name", "name"]},
        "extensions-builtin/Lora": {
            "network.Network": ["unet_multiplier", "dyn_dim", "network_on_disk", "name"],
            "network.NetworkOnDisk": ["filename"],
        },
    },
    "Forge": {
        "": {
            **_STATE,
            **_PARAMS,
            **_FORGE,
            "backend.patcher.base.ModelPatcher": [
                "model",
                "lora_patches",
                "object_patches",
                "model_options",
                "load_device",
                "offload_device",
            ],
            "backend.diffusion_engine.base.ForgeDiffusionEngine": ["forge_objects"],
        }
    },
    "Forge Neo": {
        "": {
            **_STATE,
            **_PARAMS,
            **_FORGE,
            "backend.patcher.base.ModelPatcher": [
                "model",
                "patches",
                "patches_uuid",
                "weight_wrapper_patches",
                "object_patches",
                "model_options",
                "load_device",
                "offload_device",
            ],
            "backend.diffusion_engine.base.ForgeDiffusionEngine": ["forge_objects", "current_lora_hash"],
        }
    },
    "reForge": {
        "": {
            **_STATE,
            **_PARAMS,
            "modules.sd_models.CheckpointInfo": ["filename"],
            "ldm_patched.modules.model_patcher.ModelPatcher": [
                "model",
                "patches",
                "object_patches",
                "model_options",
                "load_device",
                "offload_device",
            ],
            "modules_forge.unet_patcher.UnetPatcher": ["controlnet_linked_list"],
            "ldm_patched.modules.model_base.BaseModel": ["diffusion_model"],
        }
    },
}


def used(ui: str) -> set[str]:
    """Dotted names of the UI's `modules` in the parts of the plugin that run in this UI."""
    out: set[str] = set()
    for path in [*sorted(UI.rglob("*.py")), *sorted((PLUGIN / "scripts").glob("*.py"))]:
        if path.is_relative_to(UI / FOREIGN[ui]):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        imported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "modules":
                names = [alias.name for alias in node.names]
                if node.module == "modules":
                    imported.update(names)
                else:
                    out.update(f"{node.module}.{name}" for name in names)
        out.update(
            f"modules.{node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
        )
    return out


def record(ui: str, root: Path) -> dict[str, object]:
    """Parameters of functions, True for other names, None for what is not there."""

    def source(folder: str) -> Source:
        return Source(root / folder, marks=False)

    names = {name: Source(root, marks=False).describe(name) for name in sorted(used(ui))}
    others = {folder: {name: _describe(source(folder), name) for name in wanted} for folder, wanted in OTHERS[ui].items()}
    methods = {
        folder: {owner: {name: source(folder).method(owner, name) for name in wanted} for owner, wanted in owners.items()}
        for folder, owners in METHODS[ui].items()
    }
    methods[""].update({owner: {"forward": source("").method(owner, "forward")} for owner in models(ui)})
    return {"names": names, "others": others, "methods": methods}


def models(ui: str) -> list[str]:
    """Classes of models whose recorded parameters stand in the families' descriptions."""
    return [owner for call in family_calls() for owner, by_ui in call.recorded.items() if ui in by_ui]


def attributes(root: Path, owner: str) -> set[str]:
    """Names that a class sets on itself, in its body, or defines."""
    module, name = owner.rsplit(".", 1)
    tree = ast.parse(root.joinpath(*module.split(".")).with_suffix(".py").read_text("utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name).body
    targets = [
        target
        for node in body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in getattr(node, "targets", None) or [node.target]
    ]
    return Source(root, marks=False).attributes(owner) | {target.id for target in targets if isinstance(target, ast.Name)}


def _describe(source: Source, name: str) -> object | None:
    found = source.describe(name)
    if found is None:
        return None
    owner, leaf = name.rsplit(".", 1)
    return source.method(owner, leaf) if owner.rsplit(".", 1)[-1][0].isupper() else found


if __name__ == "__main__":
    kept = json.loads((UI / "recorded.json").read_text("utf-8"))
    # What has no checkout here stays as it was recorded.
    found = {ui: record(ui, Path(os.environ[variable])) for ui, variable in VARIABLES.items() if os.environ.get(variable)}
    for ui, facts in found.items():
        for owner in models(ui):
            print(f"{ui}, {owner}: {json.dumps(facts['methods'][''].pop(owner)['forward'])}", file=sys.stderr)
    json.dump({**kept, **found}, sys.stdout, indent=1)
    print()
