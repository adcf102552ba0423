"""Inputs that several nodes share, so that they read and behave the same everywhere."""

from __future__ import annotations

import folder_paths

from ....engine import HOSTS, PRECISIONS
from ....files import stamp
from ..source import FOLDERS, Settings, Source

# The sidecar reads safetensors only: a pickle can run code.
EXTENSIONS = (".safetensors", ".sft")

STRENGTH = (
    "FLOAT",
    {
        "default": 1.0,
        "min": -20.0,
        "max": 20.0,
        "step": 0.01,
        "tooltip": "How strongly the LoRA acts, on the diffusion model and on CLIP. Negative values push the other way; 0 leaves it out.",
    },
)


def names(folder: str) -> list[str]:
    return [name for name in folder_paths.get_filename_list(folder) if name.lower().endswith(EXTENSIONS)]


def checkpoint_input() -> tuple:
    listed = names("checkpoints")
    listed += [name for name in names("diffusion_models") if name not in listed]
    return (
        listed,
        {"tooltip": "A checkpoint or diffusion model (safetensors). Its diffusion weights go to the engine, not into ComfyUI's memory."},
    )


def lora_input() -> tuple:
    return (names("loras"), {"tooltip": "A LoRA or LyCORIS file (safetensors) from the loras folders."})


def precision_input(**more: object) -> tuple:
    return (
        list(PRECISIONS),
        {"default": "auto", **more, "tooltip": "Number format of the engine's weights. auto: fp16 on a GPU, fp32 on a CPU."},
    )


def settings_inputs() -> dict[str, tuple]:
    return {
        "host": (
            list(HOSTS),
            {"default": "auto", "advanced": True, "tooltip": "What runs the engine. auto: the best that this computer has."},
        ),
        "precision": precision_input(advanced=True),
    }


def source_of(ckpt_name: str, host: str = "auto", precision: str = "auto") -> Source:
    """Raises FileNotFoundError in ComfyUI's own words when the file is gone."""
    for folder in FOLDERS:
        path = folder_paths.get_full_path(folder, ckpt_name)
        if path is not None:
            return Source(path, folder, ckpt_name, Settings(host, precision))
    raise FileNotFoundError(
        f"{ckpt_name} is in none of the folders for {' and '.join(FOLDERS)}. Press R to refresh the lists, and choose a file."
    )


def file_fingerprint(folder: str, name: str) -> str:
    """Changes when the file is rewritten; "gone" while it is missing."""
    path = folder_paths.get_full_path(folder, name)
    return str(stamp(path)) if path else "gone"


def checkpoint_fingerprint(ckpt_name: str) -> str:
    return "|".join(file_fingerprint(folder, ckpt_name) for folder in FOLDERS)
