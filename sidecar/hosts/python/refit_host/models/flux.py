"""Flux on a device: packing, positions and the scaled timestep outside the graph exporter's trace."""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from refit_graphs.flux import PATCH, THETA
from torch import Tensor

from .rotation import Frequencies, cos_sin


def adapt(module: torch.nn.Module, config: Mapping[str, Any]) -> torch.nn.Module:
    frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)

    def rotation(_: torch.nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
        return cos_sin([ids[:, axis, None] * values for axis, values in enumerate(frequencies.on(ids.device))])

    module.pos_embed.forward = MethodType(rotation, module.pos_embed)
    embed = module.time_text_embed.forward
    # diffusers rounds timestep and guidance to the float type before it scales them by 1000; in f16 that would move them by up to half a step.
    module.time_text_embed.forward = lambda *given: embed(*module.refit_times, given[-1])
    return module


def forward(module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (0..1), encoder_hidden_states [b, t, d], y [b, k], optionally guidance [b]."""
    sample, context = inputs["sample"], inputs["encoder_hidden_states"]
    batch, channels, height, width = sample.shape
    rows, columns = height // PATCH, width // PATCH
    packed = sample.reshape(batch, channels, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * PATCH**2)
    grid = torch.zeros(rows, columns, 3, device=sample.device)
    grid[..., 1] += torch.arange(rows, device=sample.device)[:, None]
    grid[..., 2] += torch.arange(columns, device=sample.device)
    guidance = inputs.get("guidance")
    times = [inputs["timestep"] * 1000, *([] if guidance is None else [guidance * 1000])]
    module.refit_times = times
    out = module(
        packed, context, inputs["y"], inputs["timestep"], img_ids=grid.reshape(-1, 3),
        txt_ids=torch.zeros(context.shape[1], 3, device=sample.device), guidance=guidance, return_dict=False,
    )[0]  # fmt: skip
    out_channels = module.config.out_channels // PATCH**2
    return out.reshape(batch, rows, columns, out_channels, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5).reshape(batch, out_channels, height, width)
