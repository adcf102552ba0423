"""Small networks with the layout of real ones. In: diffusers options. Out: a random diffusers UNet, its canonical weights and shapes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from refit_graphs.header import Shapes

ROOT = Path(__file__).resolve().parents[4]
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3"}
RESNET["conv_shortcut"] = "skip_connection"
OUTER = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0"}
OUTER |= {
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


@dataclass
class Tiny:
    """A random UNet, and its weights by canonical name."""

    unet: UNet2DConditionModel
    weights: dict[str, torch.Tensor]

    @property
    def shapes(self) -> Shapes:
        return {name: tuple(tensor.shape) for name, tensor in self.weights.items()}


def shipped(name: str) -> dict:
    return json.loads((ROOT / "sidecar/graphs" / name / "graph.json").read_text(encoding="utf-8"))


def shipped_shapes(name: str) -> Shapes:
    return {row["parameter"]: tuple(row["shape"]) for row in shipped(name)["refitMap"]}


def tiny(layout: str, widths: list[int], seed: int = 0, **changes: object) -> Tiny:
    """The shipped layout's diffusers network with other widths (and any other option of UNet2DConditionModel)."""
    torch.manual_seed(seed)
    config, unet = _network(layout, widths, changes)
    with torch.no_grad():
        for parameter in unet.parameters():
            # Equal and constant parameters (fresh norms are all ones) would hide a mix-up of names.
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Tiny(unet, _canonical(config, unet))


def tiny_shapes(layout: str, widths: list[int], **changes: object) -> dict[str, tuple[int, ...]]:
    """Those of `tiny`, without values: SDXL's words are wide whatever its blocks are, and its values take seconds."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in _canonical(*_network(layout, widths, changes)).items()}


def _network(layout: str, widths: list[int], changes: dict) -> tuple[dict, UNet2DConditionModel]:
    config = shipped(layout)["config"] | {"block_out_channels": widths} | changes
    linear = config["use_linear_projection"]
    config["attention_head_dim"] = [max(1, width // 64) if linear else 8 for width in widths]
    return config, UNet2DConditionModel(**config).eval()


def _canonical(config: dict, unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    layers, count = config["layers_per_block"], len(config["block_out_channels"])
    layers = [layers] * count if isinstance(layers, int) else layers
    with_attention = ["CrossAttn" in kind for kind in config["up_block_types"]]
    return {canonical_name(name, layers, with_attention): tensor for name, tensor in unet.state_dict().items()}


def canonical_name(name: str, layers: list[int], up_attention: list[bool]) -> str:
    """The other direction of the exporter's rule, written from the published tables (docs/develop/adapters.md): a check that shares no code with it."""
    stem, _, kind = name.rpartition(".")
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    side, level, part, place, rest = re.fullmatch(
        r"(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", stem
    ).groups()
    inner = RESNET.get(rest, rest) if part == "resnets" else rest
    if side == "mid_block":
        return f"middle_block.{2 * int(place) if part == 'resnets' else 1}.{inner}.{kind}"
    level, place = int(level), int(place)
    if side == "down_blocks":
        first = 1 + sum(layers[:level]) + level
        slot = {"resnets": f"{first + place}.0", "attentions": f"{first + place}.1", "downsamplers": f"{first + layers[level]}.0.op"}[part]
        return f"input_blocks.{slot}.{kind}" if part == "downsamplers" else f"input_blocks.{slot}.{inner}.{kind}"
    upward = layers[::-1]
    first = sum(upward[:level]) + level
    if part == "upsamplers":
        return f"output_blocks.{first + upward[level]}.{2 if up_attention[level] else 1}.conv.{kind}"
    return f"output_blocks.{first + place}.{0 if part == 'resnets' else 1}.{inner}.{kind}"
