"""ERNIE-Image on a device. In: canonical shapes. Out: diffusers' ErnieImageTransformer2DModel, called as ComfyUI calls its own.

`timestep` runs to 1000. The picture's cells come before the words, and stand at (number of words, row, column). One change of the time serves all blocks.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .attention import mix
from .configuration import count, even_axes, need
from .patches import from_tokens
from .rotation import Frequencies
from .spec import Shapes
from .z_image import angles

THETA = 256.0
AXES = (2, 3, 3)


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels, patch, _ = need(shapes, "x_embedder.proj.weight")
    (head,) = need(shapes, "layers.0.self_attention.norm_q.weight")
    return {
        "hidden_size": width,
        "num_attention_heads": width // head,
        "num_layers": count(shapes, "layers"),
        "ffn_hidden_size": need(shapes, "layers.0.mlp.linear_fc2.weight")[1],
        "in_channels": channels,
        "out_channels": need(shapes, "final_linear.weight")[0] // patch**2,
        "patch_size": patch,
        "text_in_dim": shapes.get("text_proj.weight", (0, width))[1],
        "rope_theta": int(THETA),
        "rope_axes_dim": tuple(even_axes(head, AXES)),
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import ErnieImageTransformer2DModel

    with torch.device("meta"):
        return ErnieImageTransformer2DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["rope_axes_dim"]), THETA)
    for block in module.layers:
        block.self_attention.set_processor(Attention())
        block.forward = MethodType(_block, block)
    return module


class Attention:
    """Normalised queries and keys; a head's halves turn against each other, each channel by the angle of its pair of neighbours."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, attention_mask: None, freqs_cis: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (layer(hidden_states).unflatten(-1, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        return attn.to_out[0](mix(_turned(attn.norm_q(query), freqs_cis), _turned(attn.norm_k(key), freqs_cis), value))


def _turned(values: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """[b, tokens, heads, width] by cos and sin [tokens, width], in f32."""
    cos, sin = (part[:, None] for part in rotation)
    wide = values.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat([-second, first], dim=-1) * sin).to(values.dtype)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (0..1000), encoder_hidden_states [b, t, d]."""
    sample, words = inputs["sample"], inputs["encoder_hidden_states"]
    patch = module.patch_size
    rows, columns = sample.shape[-2] // patch, sample.shape[-1] // patch
    words = words if module.text_proj is None else module.text_proj(words)
    tokens = torch.cat([module.x_embedder(sample), words], dim=1)
    time = module.time_embedding(module.time_proj(inputs["timestep"]).to(sample.dtype))
    changes = module.adaLN_modulation(time)[:, None].chunk(6, dim=-1)
    turns = _turns(module.refit_frequencies.on(sample.device), words.shape[1], rows, columns)
    for block in module.layers:
        tokens = block(tokens, changes, turns)
    scale, shift = module.final_norm.linear(time)[:, None].chunk(2, dim=-1)
    seen = module.final_norm.norm(tokens[:, : rows * columns]) * (1 + scale) + shift
    return from_tokens(module.final_linear(seen), rows, columns, patch, channels_last=True)


def _block(block: nn.Module, tokens: Tensor, changes: tuple[Tensor, ...], turns: tuple[Tensor, Tensor]) -> Tensor:
    shift, scale, gate, late_shift, late_scale, late_gate = changes
    looked = block.self_attention(block.adaLN_sa_ln(tokens) * (1 + scale) + shift, image_rotary_emb=turns)
    tokens = tokens + gate * looked
    return tokens + late_gate * block.mlp(block.adaLN_mlp_ln(tokens) * (1 + late_scale) + late_shift)


def _turns(frequencies: list[Tensor], words: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Cos and sin [cells and words, width of a head]; words stand at (number, 0, 0)."""
    text, picture = angles(frequencies, words, rows, columns, rows * columns, 0.0)
    every = torch.cat([picture, text]).repeat_interleave(2, dim=-1)
    return every.cos(), every.sin()
