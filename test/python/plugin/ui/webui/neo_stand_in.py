"""A folder that looks like Forge Neo, made from what is recorded of it: `python neo_stand_in.py DIR`. Names alone, but for the backend: that does in a
few lines what the facts say."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[5] / "plugin"))

from refit_sidecar_plugin.ui.webui.selfcheck import record_of  # noqa: E402

RECORD = record_of("Forge Neo")

WRITTEN = {
    "launch.py": "",
    "modules/launch_utils.py": "",
    "modules_forge/__init__.py": "",
    "modules_forge/forge_version.py": 'version = "neo"\nrelease = "stand-in"\n',
    "backend/__init__.py": "",
    "backend/args.py": """
class dynamic_args:
    ops = None
    nunchaku = False
    ref_latents = []

    @classmethod
    def get(cls, key, default=None):
        return getattr(cls, key, default)
""",
    "backend/memory_management.py": """
import torch


def get_torch_device():
    return torch.device("cpu")


def get_free_memory(dev=None, torch_free_too=False):
    return 1 << 30


def free_memory(memory_required, device, keep_loaded=[]):
    return []


def soft_empty_cache(force=False):
    pass


def load_models_gpu(models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False):
    for one in models:
        one.load(one.load_device)
""",
    "backend/patcher/__init__.py": "",
    "backend/patcher/base.py": """
import copy
import uuid

import torch


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, *, current_device=None, weight_inplace_update=False):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.patches, self.weight_wrapper_patches, self.object_patches, self.backup = {}, {}, {}, {}
        self.model_options, self.patches_uuid = {"transformer_options": {}}, uuid.uuid4()

    def clone(self):
        made = self.__class__(self.model, self.load_device, self.offload_device)
        made.patches = {key: list(entries) for key, entries in self.patches.items()}
        made.weight_wrapper_patches, made.object_patches = dict(self.weight_wrapper_patches), dict(self.object_patches)
        made.model_options, made.patches_uuid, made.backup = copy.deepcopy(self.model_options), self.patches_uuid, self.backup
        return made

    def memory_required(self, input_shape):
        return 1

    def set_model_unet_function_wrapper(self, unet_wrapper_function):
        self.model_options["model_function_wrapper"] = unet_wrapper_function

    def add_patches(self, patches, strength_patch=1.0, strength_model=1.0, *, filename=None, online_mode=None):
        for key, patch in patches.items():
            self.patches.setdefault(key, []).append((strength_patch, patch, strength_model, None, None))
        self.patches_uuid = uuid.uuid4()
        return list(patches)

    def load(self, device):
        parameters = dict(self.model.named_parameters())
        for key, weight in self.backup.items():
            parameters[key].data = weight
        self.backup.clear()
        for key, entries in self.patches.items():
            self.backup[key] = parameters[key].data.clone()
            for strength, (up, down), *_ in entries:
                parameters[key].data = parameters[key].data + strength * up @ down
        self.model.to(device)
""",
    "backend/patcher/unet.py": """
from backend.patcher.base import ModelPatcher


class UnetPatcher(ModelPatcher):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.controlnet_linked_list = None

    def clone(self):
        made = super().clone()
        made.controlnet_linked_list = self.controlnet_linked_list
        return made
""",
    "backend/patcher/lora.py": """
def model_lora_keys_unet(model, key_map={}):
    return key_map


def load_lora(lora, to_load, log_missing=True):
    return {key: (lora[f"{name}.lora_up.weight"], lora[f"{name}.lora_down.weight"]) for name, key in to_load.items()}, {}
""",
    "backend/modules/__init__.py": "",
    "backend/modules/k_model.py": """
import torch
from backend import args


class KModel(torch.nn.Module):
    def __init__(self, model, diffusers_scheduler, k_predictor=None, config=None):
        super().__init__()
        # None until the loader has noted the layers' class.
        self.quantised = args.dynamic_args.ops.startswith("Mixed")
        self.diffusion_model, self.predictor, self.config = model, k_predictor, config
        self.storage_dtype, self.computation_dtype = model.storage_dtype, model.computation_dtype

    def apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):
        out = self.diffusion_model(x, t, context=c_crossattn, control=control, transformer_options=transformer_options, **kwargs)
        return self.predictor.calculate_denoised(t, out, x)
""",
}


def make(root: Path) -> None:
    texts = dict(WRITTEN)
    functions: dict[str, list[str]] = {}
    methods: dict[tuple[str, str], list[str]] = {}
    wanted = [("", name, kind) for name, kind in RECORD["names"].items()]
    wanted += [(folder, name, kind) for folder, names in RECORD["others"].items() for name, kind in names.items()]
    for folder, name, kind in wanted:
        owner, leaf = name.rsplit(".", 1)
        if owner.rsplit(".", 1)[-1][0].isupper():
            methods.setdefault((folder, owner), []).append(_function(leaf, kind))
        elif leaf[0].isupper():
            methods.setdefault((folder, name), []).append(_function("__init__", ["self", *(kind if isinstance(kind, list) else [])]))
        else:
            functions.setdefault(_file(folder, owner), []).append(_function(leaf, kind))
    for folder, owners in RECORD["methods"].items():
        for owner, names in owners.items():
            methods.setdefault((folder, owner), []).extend(_function(leaf, kind) for leaf, kind in names.items())
    for (folder, owner), bodies in methods.items():
        module, name = owner.rsplit(".", 1)
        indented = ["    " + body for body in bodies]
        functions.setdefault(_file(folder, module), []).append("\n".join([f"class {name}:", *indented]))
    for file, bodies in functions.items():
        texts.setdefault(file, "\n".join(bodies) + "\n")
    for file, text in texts.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, "utf-8")


def _file(folder: str, module: str) -> str:
    return "/".join([*([folder] if folder else []), *module.split(".")]) + ".py"


def _function(name: str, kind: object) -> str:
    if not isinstance(kind, list):
        return f"{name} = None"
    parameters = [{"*": "*arguments", "**": "**named"}.get(one, one) for one in kind]
    return f"def {name}({', '.join(parameters)}): pass"


if __name__ == "__main__":
    make(Path(sys.argv[1]))
