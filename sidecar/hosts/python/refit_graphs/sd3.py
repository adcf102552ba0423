"""SD3 and SD3.5. In: canonical shapes. Out: an Exportable of diffusers' SD3Transformer2DModel.

Inputs of a step: sample (even height and width), timestep (0..1000, f32), encoder_hidden_states, y (pooled text).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import SD3Transformer2DModel

from .descriptions import Described
from .errors import UnsupportedStructure
from .exportable import Exportable, transformer
from .expression import count_indices
from .header import Shapes


def exportable(shapes: Shapes) -> Exportable:
    config = _config(shapes)
    output = ("batch", config["out_channels"], "height", "width")
    return transformer("sd3", shapes, config, _build, output, {"batch": 2, "height": 4, "width": 6, "tokens": 5}, _run)


def _config(shapes: Shapes) -> dict[str, Any]:
    try:
        width, channels, patch, _ = shapes["x_embedder.proj.weight"]
        head = shapes.get("joint_blocks.0.x_block.attn.ln_q.weight", (64,))[0]
        return {
            "sample_size": 128,
            "patch_size": patch,
            "in_channels": channels,
            "num_layers": count_indices(shapes, "joint_blocks."),
            "attention_head_dim": head,
            "num_attention_heads": width // head,
            "joint_attention_dim": shapes["context_embedder.weight"][1],
            "caption_projection_dim": shapes["context_embedder.weight"][0],
            "pooled_projection_dim": shapes["y_embedder.mlp.0.weight"][1],
            "out_channels": shapes["final_layer.linear.weight"][0] // patch**2,
            "pos_embed_max_size": math.isqrt(shapes["pos_embed"][1]),
            "dual_attention_layers": Described("sd3", shapes)["dualBlocks"],
            "qk_norm": "rms_norm" if "joint_blocks.0.x_block.attn.ln_q.weight" in shapes else None,
        }
    except (KeyError, IndexError, ValueError) as error:
        raise UnsupportedStructure(f"expected an SD3 header, without {error}: this structure is not supported") from error


def _build(config: dict[str, Any]) -> SD3Transformer2DModel:
    with torch.device("meta"):
        return SD3Transformer2DModel(**config).eval()


def _run(
    module: SD3Transformer2DModel, sample: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    return module(sample, context, y, timestep, return_dict=False)[0]
