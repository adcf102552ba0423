"""Small networks with the layout of real ones. In: the layout's shipped graph.json and narrow widths. Out: a diffusers UNet and its canonical state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from refit_graphs.header import Shapes
from refit_graphs.unet_names import diffusers_name

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Tiny:
    """A random UNet, `shapes` by canonical name and `weights` by canonical name."""

    unet: UNet2DConditionModel
    shapes: Shapes
    weights: dict[str, torch.Tensor]


def shipped(layout: str) -> dict:
    return json.loads((ROOT / "sidecar/graphs" / layout / "graph.json").read_text(encoding="utf-8"))


def tiny(layout: str, widths: list[int], seed: int = 0, **changes: object) -> Tiny:
    """The shipped layout's diffusers network with other widths (and any other option of UNet2DConditionModel)."""
    table = shipped(layout)
    config = table["config"] | {
        "block_out_channels": widths,
        "attention_head_dim": [max(1, width // 64) if table["config"]["use_linear_projection"] else 8 for width in widths],
    }
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**(config | changes)).eval()
    with torch.no_grad():
        for parameter in unet.parameters():
            # Equal and constant parameters (fresh norms are all ones) would hide a mix-up of names.
            parameter.add_(0.05 * torch.randn_like(parameter))
    state = unet.state_dict()
    names = {row["parameter"]: diffusers_name(row["parameter"], config["layers_per_block"]) for row in table["refitMap"]}
    weights = {name: state[inner] for name, inner in names.items() if inner in state}
    assert len(weights) == len(state), "the layout's names cover the small network"
    return Tiny(unet, {name: tuple(tensor.shape) for name, tensor in weights.items()}, weights)
