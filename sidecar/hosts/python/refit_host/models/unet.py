"""UNet families (sd15, sd2, sdxl, refiner): configuration from shapes, names between diffusers and the checkpoint's own.

Name rules: docs/adapters.md. The engine takes `y` directly: `label_emb` is diffusers' projected class embedding.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from .spec import ModelSpec, Shapes, Source

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
TOP = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2", "class_embedding.linear_1": "label_emb.0.0", "class_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
HEAD_CHANNELS = 64
SD15_HEADS = 8


def _depth(shapes: Shapes, prefix: str) -> int:
    found = {int(m[1]) for name in shapes if (m := re.match(re.escape(prefix) + r"\.transformer_blocks\.(\d+)\.", name))}
    return max(found) + 1 if found else 0


def _levels(shapes: Shapes) -> tuple[list[int], list[int], int]:
    """(channels per level, transformer depth per level, resnets per level) read off the input blocks."""
    channels, depths, counts, at = [], [], [0], 1
    while any(name.startswith(f"input_blocks.{at}.") for name in shapes):
        out = shapes.get(f"input_blocks.{at}.0.out_layers.3.weight")
        if out is None:
            counts.append(0)
        else:
            if counts[-1] == 0:
                channels.append(out[0])
                depths.append(_depth(shapes, f"input_blocks.{at}.1"))
            counts[-1] += 1
        at += 1
    return channels, depths, counts[0]


def config_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Arguments of diffusers.UNet2DConditionModel for canonical shapes of any UNet family."""
    channels, depths, resnets = _levels(shapes)
    context = next((shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), 1280)
    proj = next((shape for name, shape in shapes.items() if name.endswith("1.proj_in.weight")), (0, 0))
    linear = len(proj) == 2
    out_depths = [_depth(shapes, f"output_blocks.{level * (resnets + 1)}.1") for level in range(len(channels))]
    middle = _depth(shapes, "middle_block.1")
    layers: list[int] = [max(1, depth) for depth in depths]
    if depths[-1] == 0 and middle:
        layers[-1] = middle  # diffusers takes the middle block's depth from the last level
    config: dict[str, Any] = {
        "sample_size": 128, "in_channels": shapes["input_blocks.0.0.weight"][1], "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": channels, "layers_per_block": resnets, "cross_attention_dim": context,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in out_depths],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D",
        "transformer_layers_per_block": layers, "use_linear_projection": linear,
        "attention_head_dim": [c // HEAD_CHANNELS for c in channels] if linear else SD15_HEADS,
    }  # fmt: skip
    if out_depths[::-1] != depths:
        config["reverse_transformer_layers_per_block"] = [max(1, depth) for depth in out_depths]
    if "label_emb.0.0.weight" in shapes:
        config["class_embed_type"] = "projection"
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return config


def canonical_name(name: str, resnets: int, has_attention: dict[str, bool]) -> str:
    """A diffusers parameter's name in the checkpoint. `has_attention`: diffusers block ("up_blocks.0") -> whether it has any."""
    stem, leaf = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{leaf}"
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", stem):
        kind, index, rest = match[1], int(match[2]), match[3]
        place = f"middle_block.{index * 2 if kind == 'resnets' else 1}"
        return f"{place}.{RESNET[rest] if kind == 'resnets' else rest}.{leaf}"
    match = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", stem)
    if match is None:
        raise KeyError(name)
    side, level, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    first = (1 if side == "down" else 0) + (resnets + 1) * level
    prefix = "input_blocks" if side == "down" else "output_blocks"
    if kind == "downsamplers":
        return f"{prefix}.{first + resnets}.0.op.{leaf}"
    if kind == "upsamplers":
        return f"{prefix}.{first + resnets}.{2 if has_attention[f'up_blocks.{level}'] else 1}.conv.{leaf}"
    part = f"0.{RESNET[rest]}" if kind == "resnets" else f"1.{rest}"
    return f"{prefix}.{first + index}.{part}.{leaf}"


def spec(shapes: Shapes, family: str, config: dict[str, Any] | None = None) -> ModelSpec:
    """The model of a UNet structure. `config` comes from a graph bundle when there is one."""
    from diffusers import UNet2DConditionModel

    chosen = config or config_from_shapes(shapes)

    def build() -> torch.nn.Module:
        with torch.device("meta"):
            return UNet2DConditionModel.from_config(chosen) if "_class_name" in chosen else UNet2DConditionModel(**chosen)

    names = [name for name, _ in build().named_parameters()]
    attention = {name[: name.index(".attentions")]: True for name in names if ".attentions." in name}
    blocks = {".".join(name.split(".")[:2]): False for name in names if "_blocks." in name}
    resnets = chosen["layers_per_block"]
    sources = {name: Source(canonical_name(name, resnets, {**blocks, **attention})) for name in names}
    inputs = ("sample", "timestep", "encoder_hidden_states") + (("y",) if "label_emb.0.0.weight" in shapes else ())
    return ModelSpec(family, chosen, build, sources, ("BasicTransformerBlock", "ResnetBlock2D"), inputs)
