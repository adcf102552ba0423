"""Run by a ComfyUI's Python: its own key map of every structure in test/golden/headers, in its order. argv: the ComfyUI's folder, names of structures.

Prints {structure: [[adapter name, parameter, "start,length" or "", whether halves are exchanged], ...]}; null for a structure that this ComfyUI does not know.
"""

import gzip
import json
import sys
from pathlib import Path

tree, names = sys.argv[1], sys.argv[2:]
sys.argv = ["comfyui", "--cpu"]
sys.path.insert(0, tree)
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.lora  # noqa: E402
import comfy.model_detection  # noqa: E402
import torch  # noqa: E402

HEADERS = Path(__file__).resolve().parents[2] / "golden/headers"
PREFIX = "model.diffusion_model."


def key_map(name: str) -> list | None:
    shapes = json.loads(gzip.decompress((HEADERS / f"{name}.json.gz").read_bytes()))
    whole = any(key.startswith(PREFIX) for key in shapes)
    model = {key.removeprefix(PREFIX): shape for key, shape in shapes.items() if not whole or key.startswith(PREFIX)}
    tensors = {key: torch.empty(shape, device="meta") for key, shape in model.items()}
    try:
        config = comfy.model_detection.model_config_from_unet(tensors, "")
        if config is None:
            return None
        with torch.device("meta"):
            made = config.get_model(tensors, "", device=torch.device("meta"))
    except (TypeError, RuntimeError):
        # A structure that is newer than this ComfyUI, or whose schedule asks for values.
        return None
    return [[key, *target(value)] for key, value in comfy.lora.model_lora_keys_unet(made, {}).items()]


def target(value: object) -> list:
    parameter, rows, function = (value, None, None) if isinstance(value, str) else (*value, None)[:3]
    return [str(parameter).removeprefix("diffusion_model."), "" if rows is None else f"{rows[1]},{rows[2]}", function is not None]


print(json.dumps({name: key_map(name) for name in names}))
