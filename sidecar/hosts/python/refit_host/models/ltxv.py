"""LTX-Video on a device. In: canonical shapes. Out: diffusers' LTXVideoTransformer3DModel, called as ComfyUI calls its own.

`timestep` is sigma (0..1), `token_timesteps` that of each cell where some are given. Positions are seconds and pixels: `frame_rate` says how long a frame is.
Two settings of a release stand in its file's metadata and not in its shapes; they come with a step, so that an engine of one structure serves all:
`causal` (the first frame is one picture and not eight) and `middle` (a cell stands at its middle and not at its corner), 0 or 1.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .configuration import count, need
from .patches import from_tokens, to_tokens
from .spec import Shapes

HEADS = 32
THETA = 10000.0
# Frames and pixels of one cell, and what is far away: seconds, pixels, pixels.
CELL = (8, 32, 32)
FAR = (20, 2048, 2048)
MASKED = -10000.0


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "patchify_proj.weight")
    return {
        "in_channels": channels,
        "out_channels": need(shapes, "proj_out.weight")[0],
        "num_attention_heads": HEADS,
        "attention_head_dim": width // HEADS,
        "cross_attention_dim": need(shapes, "transformer_blocks.0.attn2.to_k.weight")[1],
        "num_layers": count(shapes, "transformer_blocks"),
        "caption_channels": need(shapes, "caption_projection.linear_1.weight")[1],
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    with torch.device("meta"):
        return LTXVideoTransformer3DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = {}
    module.rope = None
    return module


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b], encoder_hidden_states [b, t, d], frame_rate [b].

    Optionally attention_mask [b, t], token_timesteps [b, f * h * w], causal [b], middle [b].
    """
    sample = inputs["sample"]
    batch, _, frames, rows, columns = sample.shape
    tokens = module.proj_in(to_tokens(sample, 1))
    times = inputs.get("token_timesteps", inputs["timestep"][:, None])
    change, time = module.time_embed((times * 1000).flatten(), batch_size=batch, hidden_dtype=sample.dtype)
    change, time = (values.view(batch, -1, values.shape[-1]) for values in (change, time))
    words = module.caption_projection(inputs["encoder_hidden_states"]).view(batch, -1, tokens.shape[-1])
    mask = inputs.get("attention_mask")
    mask = None if mask is None else ((1 - mask) * MASKED)[:, None]
    turns = _turns(module, inputs, tokens.shape[-1])
    for block in module.transformer_blocks:
        tokens = block(tokens, words, change, turns, mask)
    shift, scale = (module.scale_shift_table[None, None] + time[:, :, None]).unbind(2)
    out = module.proj_out(module.norm_out(tokens) * (1 + scale) + shift)
    return from_tokens(out, rows, columns, 1, frames=frames)


def _turns(module: nn.Module, inputs: Mapping[str, Tensor], width: int) -> tuple[Tensor, Tensor]:
    """Cos and sin [b, cells, width], neighbouring channels alike; channels that are left over stand still, in front."""
    device, (frames, rows, columns) = inputs["sample"].device, inputs["sample"].shape[2:]
    if device not in module.refit_frequencies:
        powers = torch.linspace(0, 1, width // 6, dtype=torch.float32)
        module.refit_frequencies[device] = (THETA**powers * (math.pi / 2)).to(device)
    places = _places(inputs, (frames, rows, columns))
    angles = (places[..., None] * 2 - 1) * module.refit_frequencies[device]
    angles = angles.transpose(-1, -2).flatten(2).repeat_interleave(2, dim=-1)
    still = angles.new_zeros(*angles.shape[:2], width - angles.shape[-1])
    angles = torch.cat([still, angles], dim=-1)
    return angles.cos(), angles.sin()


def _places(inputs: Mapping[str, Tensor], sizes: tuple[int, int, int]) -> Tensor:
    """Time and place of every cell [b, cells, 3], as parts of what is far away."""
    rate = inputs["frame_rate"][:, None]
    setting = {name: inputs[name][:, None] if name in inputs else torch.zeros_like(rate) for name in ("causal", "middle")}
    out = []
    for axis, size in enumerate(sizes):
        first = torch.arange(size, device=rate.device, dtype=torch.float32)[None] * CELL[axis]
        edges = [first, first + CELL[axis]]
        if axis == 0:
            # With a causal start all frames come seven earlier, and none before the beginning.
            edges = [torch.lerp(edge, (edge + 1 - CELL[0]).clamp(min=0), setting["causal"]) for edge in edges]
        place = torch.lerp(edges[0], (edges[0] + edges[1]) / 2, setting["middle"])
        place = (place / rate if axis == 0 else place) / FAR[axis]
        shape = [len(place), *(size if at == axis else 1 for at in range(3))]
        out.append(place.reshape(shape).expand(len(rate), *sizes).flatten(1))
    return torch.stack(out, dim=-1)
