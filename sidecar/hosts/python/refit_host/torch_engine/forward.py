"""One call of a family's module from the step's named inputs (docs/internals.md, graph inputs)."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

Inputs = Mapping[str, Tensor]


def unet(module: torch.nn.Module, inputs: Inputs) -> Tensor:
    """sample [b, c, h, w], timestep [b], encoder_hidden_states [b, t, d], optionally y [b, k] and ControlNet residuals."""
    down = [inputs[name] for name in sorted((n for n in inputs if n.startswith("down_residual_")), key=lambda n: int(n.rsplit("_", 1)[1]))]
    return module(
        inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], class_labels=inputs.get("y"),
        down_block_additional_residuals=tuple(down) or None, mid_block_additional_residual=inputs.get("mid_residual"),
        return_dict=False,
    )[0]  # fmt: skip
