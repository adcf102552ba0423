"""Checkpoints and adapters as files, in the names that people's files have. In: a structure's name. Out: files under a folder, and their values."""

from __future__ import annotations

import json
import re
from functools import lru_cache, partial
from pathlib import Path

import torch
from family_structures import STRUCTURES, z_image
from safetensors.torch import save_file
from torch import Tensor
from transformer_structures import flux, random_weights, wan, wan22_5b

RANK = 4
# Families with a graph are served without one by this host as well.
CHECKPOINTS = {
    **STRUCTURES,
    "z-image-comfyui": partial(z_image, 384),
    "flux-dev": flux,
    "wan21-t2v": lambda: wan("wan21-t2v-1.3b"),
    "wan21-i2v": lambda: wan("wan21-i2v-14b", 1280),
    "wan22-a14b": lambda: wan("wan22-i2v-14b"),
    # The other one of the pair: the same structure, other values.
    "wan22-a14b-low": lambda: wan("wan22-i2v-14b"),
    "wan22-5b": wan22_5b,
}

# Settings that a file's shapes do not tell.
LTX2 = {
    "causal_temporal_positioning": True, "use_middle_indices_grid": True, "rope_type": "split", "frequencies_precision": "float64",
    "av_ca_timestep_scale_multiplier": 1000.0, "audio_attention_head_dim": 4, "audio_cross_attention_dim": 128,
}  # fmt: skip
LTX20 = {**LTX2, "caption_channels": 128, "connector_num_attention_heads": 1}
LTX23 = {
    **LTX2, "caption_proj_before_connector": True, "caption_projection_first_linear": False, "apply_gated_attention": True, "cross_attention_adaln": True,
    "connector_apply_gated_attention": True, "connector_num_attention_heads": 2, "audio_connector_num_attention_heads": 1, "ff_bias": False,
}  # fmt: skip
METADATA = {
    name: {"config": json.dumps({"transformer": settings})}
    for name, settings in {"ltxv": {"causal_temporal_positioning": True}, "ltx2": LTX20, "ltx23": LTX23}.items()
}


# Names in published files where ours are the ones that newer ComfyUIs make of them (pattern, replacement). Older ComfyUIs know only these.
SCALE = [(r"_norm\.weight$", "_norm.scale"), (r"^(distilled_guidance_layer\.norms\.\d+)\.weight$", r"\1.scale")]
TENCENT = [
    (r"_attn\.norm\.(query|key)_norm", r"_attn_\1_norm"),
    (r"\.norm\.(query|key)_norm", r".\1_norm"),
    ("query_norm", "q_norm"),
    ("key_norm", "k_norm"),
]
PUBLISHED = {"chroma": SCALE, "hunyuan-video": TENCENT, "hunyuan-video-1.5": TENCENT}


@lru_cache
def checkpoint_values(name: str) -> dict[str, Tensor]:
    values = random_weights(CHECKPOINTS[name](), seed=len(name))
    if "rope.inv_freq" in values:
        # Frequencies, which no file has otherwise.
        count = len(values["rope.inv_freq"])
        values["rope.inv_freq"] = 10000.0 ** -(torch.arange(count) / count)
    return values


def published(name: str, parameter: str) -> str:
    """The name that a published file of this structure gives a parameter."""
    for pattern, replacement in PUBLISHED.get(name, []):
        parameter = re.sub(pattern, replacement, parameter)
    return parameter


def write_checkpoint(folder: Path, name: str, settings: bool = True) -> None:
    """`settings` False: without those in the header."""
    folder.mkdir(exist_ok=True)
    tensors = {published(name, parameter): value for parameter, value in checkpoint_values(name).items()}
    save_file(tensors, folder / f"{name}.safetensors", metadata=METADATA.get(name) if settings else None)


def matrices(name: str) -> list[str]:
    """What LoRAs of the family train: matrices of the second block of every list."""
    return [
        key
        for key, value in checkpoint_values(name).items()
        if value.dim() == 2 and key.endswith(".weight") and ".1." in key and min(value.shape) > RANK
    ]


@lru_cache
def adapter_factors(name: str, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Parameter -> (up, down)."""
    make = torch.Generator().manual_seed(seed)
    values = checkpoint_values(name)
    return {
        key: (
            torch.randn(values[key].shape[0], RANK, generator=make) * 0.2,
            torch.randn(RANK, values[key].shape[1], generator=make) / values[key].shape[1] ** 0.5,
        )
        for key in matrices(name)
    }


def write_adapter(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    tensors = {}
    for key, (up, down) in adapter_factors(name, seed).items():
        stem = f"diffusion_model.{key.removesuffix('.weight')}"
        tensors |= {f"{stem}.lora_B.weight": up, f"{stem}.lora_A.weight": down}
    save_file(tensors, folder / f"{name}-{seed}.safetensors")


def merged(name: str, stack: dict[int, float]) -> dict[str, Tensor]:
    """The checkpoint's values with adapters (seed -> strength) added to them."""
    values = dict(checkpoint_values(name))
    for seed, strength in stack.items():
        for key, (up, down) in adapter_factors(name, seed).items():
            values[key] = values[key] + strength * (up @ down)
    return values
