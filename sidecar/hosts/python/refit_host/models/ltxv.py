"""LTX-Video on a device. In: canonical shapes. Out: diffusers' LTXVideoTransformer3DModel, called as ComfyUI calls its own.

`timestep` is sigma (0..1), `token_timesteps` that of each cell where some are given. Positions are seconds and pixels: `frame_rate` says how long a frame is.
Two settings of a release stand in its file's metadata and not in its shapes; they come with a step, so that an engine of one structure serves all:
`causal` (the first frame is one picture and not eight) and `middle` (a cell stands at its middle and not at its corner), 0 or 1.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

import torch
from torch import Tensor, nn

from .configuration import count, need
from .ltx_guides import Guides, guides_of, kept, put_back
from .ltx_places import FAR, angles_of, cells, frequencies, setting
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
    for block in module.transformer_blocks:
        block.attn1.set_processor(_guided(type(block.attn1.processor)))
    return module


class Turns(NamedTuple):
    """What a block's attention to itself gets in place of the rotation alone, where guides have weights."""

    rotation: tuple[Tensor, Tensor]
    guides: Guides


def _guided(usual: type) -> Any:
    """diffusers' processor, and in steps with weighed guides its own way to mix."""
    from diffusers.models.transformers.transformer_ltx import apply_rotary_emb

    class Guided(usual):
        def __call__(
            self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: None = None, attention_mask: None = None, image_rotary_emb: Any = None
        ) -> Tensor:  # fmt: skip
            if not isinstance(image_rotary_emb, Turns):
                return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
            turns, guides = image_rotary_emb
            query = apply_rotary_emb(attn.norm_q(attn.to_q(hidden_states)), turns)
            key = apply_rotary_emb(attn.norm_k(attn.to_k(hidden_states)), turns)
            parts = (part.unflatten(2, (attn.heads, -1)) for part in (query, key, attn.to_v(hidden_states)))
            return attn.to_out[0](guides.mixed(*parts))

    return Guided()


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b], encoder_hidden_states [b, t, d], frame_rate [b].

    Optionally attention_mask [b, t], token_timesteps [b, f * h * w], causal [b], middle [b], and guides (ltx_guides.py).
    """
    sample = inputs["sample"]
    batch, _, frames, rows, columns = sample.shape
    tokens = module.proj_in(kept(inputs, to_tokens(sample, 1)))
    times = kept(inputs, inputs.get("token_timesteps", inputs["timestep"][:, None]))
    change, time = module.time_embed((times * 1000).flatten(), batch_size=batch, hidden_dtype=sample.dtype)
    change, time = (values.view(batch, -1, values.shape[-1]) for values in (change, time))
    words = module.caption_projection(inputs["encoder_hidden_states"]).view(batch, -1, tokens.shape[-1])
    mask = inputs.get("attention_mask")
    mask = None if mask is None else ((1 - mask) * MASKED)[:, None]
    turns, guides = _turns(module, inputs, tokens.shape[-1]), guides_of(inputs, tokens.shape[1], tokens.dtype)
    if guides is not None:
        turns = Turns(turns, guides)
    for block in module.transformer_blocks:
        tokens = block(tokens, words, change, turns, mask)
    out = projected(tokens, time, module.scale_shift_table, module.norm_out, module.proj_out)
    return from_tokens(put_back(inputs, out, frames * rows * columns), rows, columns, 1, frames=frames)


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
    middle = setting(inputs, "middle", inputs["frame_rate"][:, None])
    edges = cells(inputs, tuple(inputs["sample"].shape[2:]))
    return torch.stack([torch.lerp(first, (first + last) / 2, middle) / FAR[axis] for axis, (first, last) in enumerate(edges)], dim=-1)
