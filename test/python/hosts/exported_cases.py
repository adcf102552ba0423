"""A narrow structure of every family that has a graph, and random inputs for a step on it."""

from __future__ import annotations

import torch
from graph_structures import tiny_shapes
from refit_graphs.exportable import Exportable
from transformer_structures import flux, sd3, sd35_medium, wan, wan22_5b

UNETS = {"sd15": ("sd15", [32, 64, 64, 64]), "sdxl": ("sdxl", [64, 64, 128])}


CASES = {
    "sd15": lambda: tiny_shapes(*UNETS["sd15"]),
    "sdxl": lambda: tiny_shapes(*UNETS["sdxl"]),
    "sd3": sd3,
    "sd35-medium": sd35_medium,
    "flux-dev": flux,
    "flux-schnell": lambda: flux("flux-schnell"),
    "wan21-t2v": lambda: wan("wan21-t2v-1.3b"),
    "wan21-i2v": lambda: wan("wan21-i2v-14b"),
    "wan22-5b": wan22_5b,
    "wan22-a14b": lambda: wan("wan22-i2v-14b"),
}
SIZES = {"batch": 2, "height": 16, "width": 24, "tokens": 9, "frames": 3, "image_tokens": 5}


def step_inputs(model: Exportable, residuals: bool = False) -> dict[str, torch.Tensor]:
    ports = [*model.inputs, *(model.residuals if residuals else ())]
    sizes = dict(SIZES)
    for power in range(1, 5):
        for axis in ("height", "width"):
            sizes[f"{axis}_{2**power}"] = -(-SIZES[axis] // 2**power)
    make = torch.Generator().manual_seed(5)
    values = {port.name: torch.randn([sizes.get(axis, axis) for axis in port.axes], generator=make) for port in ports}
    return values | {"timestep": torch.tensor([0.7, 0.2]) if model.family == "flux" else torch.tensor([701.0, 33.0])}
