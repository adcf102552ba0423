"""Krea 2 on a device. In: canonical shapes. Out: diffusers' Krea2Transformer2DModel, called as ComfyUI calls its own.

`timestep` is sigma (0..1). A word's features of several text layers stand side by side; words stand at the origin, patches at (0, row, column).
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import CosSin, mix, turn
from .configuration import count, need
from .patches import from_tokens, grid, padded, to_tokens
from .rotation import Frequencies, cos_sin
from .spec import Shapes

PATCH = 2
THETA = 1000.0


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "first.weight")
    (head,) = need(shapes, "blocks.0.attn.qknorm.qnorm.scale")
    fusion = "txtfusion.layerwise_blocks.0"
    (text,), (text_head,) = need(shapes, f"{fusion}.prenorm.scale"), need(shapes, f"{fusion}.attn.qknorm.qnorm.scale")
    side = 6 * (head // 16)
    return {
        "in_channels": channels,
        "num_layers": count(shapes, "blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "num_key_value_heads": need(shapes, "blocks.0.attn.wk.weight")[0] // head,
        "intermediate_size": need(shapes, "blocks.0.mlp.gate.weight")[0],
        "timestep_embed_dim": need(shapes, "tmlp.0.weight")[1],
        "text_hidden_dim": text,
        "num_text_layers": need(shapes, "txtfusion.projector.weight")[1],
        "text_num_attention_heads": text // text_head,
        "text_num_key_value_heads": need(shapes, f"{fusion}.attn.wk.weight")[0] // text_head,
        "text_intermediate_size": need(shapes, f"{fusion}.mlp.gate.weight")[0],
        "num_layerwise_text_blocks": count(shapes, "txtfusion.layerwise_blocks"),
        "num_refiner_text_blocks": count(shapes, "txtfusion.refiner_blocks"),
        "axes_dims_rope": [head - 2 * side, side, side],
        "rope_theta": THETA,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import Krea2Transformer2DModel

    with torch.device("meta"):
        return Krea2Transformer2DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)
    for block in module.transformer_blocks:
        block.attn.set_processor(GatedAttention())
    return module


class GatedAttention:
    """Fewer heads of keys than of queries, and a gate over what attention brings."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, attention_mask: None = None, image_rotary_emb: CosSin | None = None
    ) -> Tensor:
        query, key, value = (layer(hidden_states).unflatten(-1, (-1, attn.head_dim)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        mixed = mix(turn(attn.norm_q(query), image_rotary_emb), turn(attn.norm_k(key), image_rotary_emb), value)
        return attn.to_out[0](mixed * torch.sigmoid(attn.to_gate(hidden_states)))


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, 1, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, layers * d]."""
    sample, words = inputs["sample"], inputs["encoder_hidden_states"]
    height, width = sample.shape[-2:]
    picture = padded(sample[:, :, 0], PATCH)
    rows, columns = picture.shape[-2] // PATCH, picture.shape[-1] // PATCH
    time = module.time_embed(inputs["timestep"], dtype=sample.dtype)
    modulation = module.time_mod_proj(functional.gelu(time, approximate="tanh"))
    words = module.txt_in(module.text_fusion(words.unflatten(-1, (module.config.num_text_layers, -1))))
    tokens = torch.cat([words, module.img_in(to_tokens(picture, PATCH))], dim=1)
    turns = cos_sin([_angles(module.refit_frequencies.on(sample.device), words.shape[1], rows, columns)])
    for block in module.transformer_blocks:
        tokens = block(tokens, modulation, turns)
    out = module.final_layer(tokens[:, words.shape[1] :], time)
    return from_tokens(out, rows, columns, PATCH)[:, :, None, :height, :width]


def _angles(frequencies: list[Tensor], words: int, rows: int, columns: int) -> Tensor:
    time, down, across = frequencies
    row, column = grid(rows, columns, time.device)
    picture = functional.pad(torch.cat([row[:, None] * down, column[:, None] * across], dim=-1), (len(time), 0))
    return functional.pad(picture, (0, 0, words, 0))
