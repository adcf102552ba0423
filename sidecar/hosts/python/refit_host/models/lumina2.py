"""Lumina 2 on a device. In: canonical shapes. Out: diffusers' Lumina2Transformer2DModel, called as ComfyUI calls its own.

ComfyUI's sign and time: `timestep` is sigma (0..1), the module gets 1 - sigma, and the output is negated. Words are counted from 1, patches stand
at (1 + words, row, column); an attention mask is not looked at, as in ComfyUI.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .attention import CosSin, mix, turn
from .configuration import count, even_axes, need
from .patches import from_tokens, padded, to_tokens
from .rotation import Frequencies, cos_sin
from .spec import Shapes
from .z_image import PATCH, angles

THETA = 10000.0
AXES = (1, 1, 1)


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, text = need(shapes, "cap_embedder.1.weight")
    (head,) = need(shapes, "layers.0.attention.q_norm.weight")
    inner = need(shapes, "layers.0.feed_forward.w1.weight")[0]
    return {
        "patch_size": PATCH,
        "in_channels": need(shapes, "x_embedder.weight")[1] // PATCH**2,
        "hidden_size": width,
        "num_layers": count(shapes, "layers"),
        "num_refiner_layers": count(shapes, "noise_refiner"),
        "num_attention_heads": width // head,
        "num_kv_heads": (need(shapes, "layers.0.attention.qkv.weight")[0] - width) // (2 * head),
        # diffusers multiplies 4 * width by this, and rounds up to `multiple_of`.
        "multiple_of": 1,
        "ffn_dim_multiplier": (inner + 0.5) / (4 * width),
        "axes_dim_rope": list(even_axes(head, AXES)),
        "cap_feat_dim": text,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import Lumina2Transformer2DModel

    with torch.device("meta"):
        return Lumina2Transformer2DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dim_rope"]), THETA)
    for block in (*module.noise_refiner, *module.context_refiner, *module.layers):
        block.attn.set_processor(GroupedAttention())
    return module


class GroupedAttention:
    """Fewer heads of keys than of queries."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
        image_rotary_emb: CosSin | None = None,
    ) -> Tensor:
        width = attn.norm_q.weight.shape[0]
        query, key, value = (layer(hidden_states).unflatten(-1, (-1, width)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        return attn.to_out[0](mix(turn(attn.norm_q(query), image_rotary_emb), turn(attn.norm_k(key), image_rotary_emb), value))


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]."""
    sample, context = inputs["sample"], inputs["encoder_hidden_states"]
    height, width = sample.shape[-2:]
    picture = padded(sample, PATCH)
    rows, columns = picture.shape[-2] // PATCH, picture.shape[-1] // PATCH
    embed = module.time_caption_embed
    time = embed.timestep_embedder(embed.time_proj(1 - inputs["timestep"]).to(sample.dtype))
    words = embed.caption_embedder(context)
    tokens = module.x_embedder(to_tokens(picture, PATCH, channels_last=True))
    text_angles, picture_angles = angles(module.refit_frequencies.on(sample.device), words.shape[1], rows, columns, tokens.shape[1])
    turns = cos_sin([text_angles])
    for block in module.context_refiner:
        words = block(words, None, turns)
    turns = cos_sin([picture_angles])
    for block in module.noise_refiner:
        tokens = block(tokens, None, turns, time)
    both, turns = torch.cat([words, tokens], dim=1), cos_sin([torch.cat([text_angles, picture_angles])])
    for block in module.layers:
        both = block(both, None, turns, time)
    out = module.norm_out(both, time)[:, words.shape[1] :]
    return -from_tokens(out, rows, columns, PATCH, channels_last=True)[..., :height, :width]
