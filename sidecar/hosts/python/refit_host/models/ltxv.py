"""LTX-Video on a device. In: canonical shapes. Out: diffusers' LTXVideoTransformer3DModel, called as ComfyUI calls its own.

`timestep` is sigma (0..1), `token_timesteps` that of each cell where some are given. Positions are seconds and pixels: `frame_rate` says how long a frame is.
Two settings of a release stand in its file's metadata and not in its shapes; they come with a step, so that an engine of one structure serves all:
`causal` (the first frame is one picture and not eight) and `middle` (a cell stands at its middle and not at its corner), 0 or 1.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .configuration import count, need
from .ltx_places import FAR, angles_of, edges_of, every_cell, frequencies, setting
from .patches import from_tokens, to_tokens
from .spec import Shapes

HEADS = 32
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
    module.refit_tables = {}
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
    out = projected(tokens, time, module.scale_shift_table, module.norm_out, module.proj_out)
    return from_tokens(out, rows, columns, 1, frames=frames)


def projected(tokens: Tensor, time: Tensor, table: Tensor, norm: nn.Module, layer: nn.Module) -> Tensor:
    """What comes out of the last block's tokens, changed by the time [b, 1 or cells, width]."""
    shift, scale = (table[None, None] + time[:, :, None]).unbind(2)
    return layer(norm(tokens) * (1 + scale) + shift)


def _turns(module: nn.Module, inputs: Mapping[str, Tensor], width: int) -> tuple[Tensor, Tensor]:
    """Cos and sin [b, cells, width], neighbouring channels alike."""
    short = frequencies(module.refit_tables, width // 6, inputs["sample"].device)[0]
    angles = angles_of(_places(inputs), short, width).repeat_interleave(2, dim=-1)
    return angles.cos(), angles.sin()


def _places(inputs: Mapping[str, Tensor]) -> Tensor:
    """Time and place of every cell [b, cells, 3], as parts of what is far away."""
    rate, sizes = inputs["frame_rate"][:, None], inputs["sample"].shape[2:]
    causal, middle = (setting(inputs, name, rate) for name in ("causal", "middle"))
    out = []
    for axis, size in enumerate(sizes):
        first, last = edges_of(axis, size, causal)
        place = torch.lerp(first, (first + last) / 2, middle)
        out.append(every_cell((place / rate if axis == 0 else place) / FAR[axis], axis, sizes, len(rate)))
    return torch.stack(out, dim=-1)
