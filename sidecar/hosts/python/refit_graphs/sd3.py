"""SD3 and SD3.5. In: canonical shapes. Out: an Exportable of diffusers' SD3Transformer2DModel.

Inputs of a step: sample (even height and width), timestep (0..1000, f32), encoder_hidden_states, y (pooled text).
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from diffusers import SD3Transformer2DModel

from .errors import UnsupportedStructure
from .exportable import Exportable, Target, connect
from .header import Shapes
from .weightless import DataInput

OUTER = {
    "x_embedder.proj": "pos_embed.proj",
    "context_embedder": "context_embedder",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
X_BLOCK = {
    "attn.proj": "attn.to_out.0",
    "attn.ln_q": "attn.norm_q",
    "attn.ln_k": "attn.norm_k",
    "attn2.proj": "attn2.to_out.0",
    "attn2.ln_q": "attn2.norm_q",
    "attn2.ln_k": "attn2.norm_k",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
CONTEXT_BLOCK = {
    "attn.proj": "attn.to_add_out",
    "attn.ln_q": "attn.norm_added_q",
    "attn.ln_k": "attn.norm_added_k",
    "mlp.fc1": "ff_context.net.0.proj",
    "mlp.fc2": "ff_context.net.2",
    "adaLN_modulation.1": "norm1_context.linear",
}
FUSED = {
    ("x_block", "attn.qkv"): ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("x_block", "attn2.qkv"): ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    ("context_block", "attn.qkv"): ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
BLOCK = re.compile(r"joint_blocks\.(\d+)\.(x_block|context_block)\.(.+)\.(weight|bias)")


def matches(shapes: Shapes) -> bool:
    return "joint_blocks.0.context_block.attn.qkv.weight" in shapes


def exportable(shapes: Shapes) -> Exportable:
    config = _config(shapes)
    depth = config["num_layers"]
    weights, refit_map = connect(shapes, lambda name, shape: targets(name, shape, depth), _build(config))
    return Exportable(
        family="sd3",
        file_stem="transformer",
        config=config,
        build=lambda: _build(config),
        weights=weights,
        inputs=(
            DataInput("sample", ("batch", config["in_channels"], "height", "width")),
            DataInput("timestep", ("batch",), float_type=False),
            DataInput("encoder_hidden_states", ("batch", "tokens", config["joint_attention_dim"])),
            DataInput("y", ("batch", config["pooled_projection_dim"])),
        ),
        residuals=(),
        output=DataInput("out_sample", ("batch", config["out_channels"], "height", "width")),
        trace_sizes={"batch": 2, "height": 4, "width": 6, "tokens": 5},
        run=_run,
        refit_map=refit_map,
        precisions=("fp32", "fp16", "bf16"),
    )


def targets(name: str, shape: tuple[int, ...], depth: int) -> list[Target]:
    """Where a canonical parameter goes. The last context block and the final layer keep shift before scale, diffusers the reverse."""
    if name == "pos_embed":
        return [Target("pos_embed.pos_embed")]
    stem, _, kind = name.rpartition(".")
    if stem in OUTER:
        return [Target(f"{OUTER[stem]}.{kind}")]
    if stem == "final_layer.adaLN_modulation.1":
        return [Target(f"norm_out.linear.{kind}", swap=True)]
    if match := BLOCK.fullmatch(name):
        index, side, rest, kind = match.groups()
        block = f"transformer_blocks.{index}"
        if parts := FUSED.get((side, rest)):
            length = shape[0] // 3
            return [Target(f"{block}.{part}.{kind}", i * length, length) for i, part in enumerate(parts)]
        table = X_BLOCK if side == "x_block" else CONTEXT_BLOCK
        if rest in table:
            swap = side == "context_block" and rest == "adaLN_modulation.1" and int(index) == depth - 1
            return [Target(f"{block}.{table[rest]}.{kind}", swap=swap)]
    raise UnsupportedStructure(f"expected an SD3 parameter name, got {name!r}: this structure is not supported")


def _config(shapes: Shapes) -> dict[str, Any]:
    try:
        width, channels, patch, _ = shapes["x_embedder.proj.weight"]
        head = shapes.get("joint_blocks.0.x_block.attn.ln_q.weight", (64,))[0]
        return {
            "sample_size": 128,
            "patch_size": patch,
            "in_channels": channels,
            "num_layers": 1 + max(int(match[1]) for name in shapes if (match := BLOCK.fullmatch(name))),
            "attention_head_dim": head,
            "num_attention_heads": width // head,
            "joint_attention_dim": shapes["context_embedder.weight"][1],
            "caption_projection_dim": shapes["context_embedder.weight"][0],
            "pooled_projection_dim": shapes["y_embedder.mlp.0.weight"][1],
            "out_channels": shapes["final_layer.linear.weight"][0] // patch**2,
            "pos_embed_max_size": math.isqrt(shapes["pos_embed"][1]),
            "dual_attention_layers": sorted({int(name.split(".")[1]) for name in shapes if ".x_block.attn2." in name}),
            "qk_norm": "rms_norm" if "joint_blocks.0.x_block.attn.ln_q.weight" in shapes else None,
        }
    except (KeyError, IndexError, ValueError) as error:
        raise UnsupportedStructure(f"expected an SD3 header, without {error}: this structure is not supported") from error


def _build(config: dict[str, Any]) -> SD3Transformer2DModel:
    with torch.device("meta"):
        return SD3Transformer2DModel(**config).eval()


def _run(module: SD3Transformer2DModel, sample: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return module(sample, context, y, timestep, return_dict=False)[0]
