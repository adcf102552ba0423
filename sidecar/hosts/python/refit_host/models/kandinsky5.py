"""Kandinsky 5 on a device. In: canonical shapes. Out: diffusers' Kandinsky5Transformer3DModel, called as ComfyUI calls its own.

`timestep` runs to 1000. Rows and columns of a video are turned as if it were smaller; of the large model's largest pictures even more so. The image model takes noise alone,
without frames, and turns it as it is. diffusers rounds turned queries and keys to bf16, whatever the engine's type; this module does not.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .attention import CosSin, mix, turn
from .configuration import count, even_axes, need
from .patches import padded
from .rotation import Frequencies, cos_sin, places_of
from .spec import Shapes

PATCH = 2
THETA = 10000.0
AXES = (2, 3, 3)
# By width: the image model, the large video model (with the latent size from which on its second number holds), every other one.
IMAGE, LARGE = 2560, 4096
SHRINK, SHRINK_MORE, MANY_CELLS = 2.0, 3.16, 14080


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, patch = need(shapes, "visual_embeddings.in_layer.weight")
    (head,) = need(shapes, "visual_transformer_blocks.0.self_attention.query_norm.weight")
    taken = patch // PATCH**2
    seen = taken % 2 == 1
    return {
        "in_visual_dim": (taken - 1) // 2 if seen else taken,
        "visual_cond": seen,
        "out_visual_dim": need(shapes, "out_layer.out_layer.weight")[0] // PATCH**2,
        "in_text_dim": need(shapes, "text_embeddings.in_layer.weight")[1],
        "in_text_dim2": need(shapes, "pooled_text_embeddings.in_layer.weight")[1],
        "time_dim": need(shapes, "time_embeddings.in_layer.weight")[0],
        "patch_size": (1, PATCH, PATCH),
        "model_dim": width,
        "ff_dim": need(shapes, "visual_transformer_blocks.0.feed_forward.in_layer.weight")[0],
        "num_text_blocks": count(shapes, "text_transformer_blocks"),
        "num_visual_blocks": count(shapes, "visual_transformer_blocks"),
        "axes_dims": tuple(even_axes(head, AXES)),
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import Kandinsky5Transformer3DModel

    with torch.device("meta"):
        module = Kandinsky5Transformer3DModel(**config)
    # Tables of positions are computed where they are needed.
    module.text_rope_embeddings = module.visual_rope_embeddings = None
    return module


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims"]), THETA)
    module.refit_words = Frequencies((sum(config["axes_dims"]),), THETA)
    module.refit_waves = {}
    for block in (*module.text_transformer_blocks, *module.visual_transformer_blocks):
        block.self_attention.set_processor(NormedAttention())
        if hasattr(block, "cross_attention"):
            block.cross_attention.set_processor(NormedAttention())
    return module


class NormedAttention:
    """Normalised queries and keys; turned where a rotation is given."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, rotary_emb: CosSin | None = None,
        sparse_params: None = None,
    ) -> Tensor:  # fmt: skip
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = (attn.num_heads, -1)
        query = attn.query_norm(attn.to_query(hidden_states).unflatten(-1, heads))
        key = attn.key_norm(attn.to_key(context).unflatten(-1, heads))
        if rotary_emb is not None:
            query, key = turn(query, rotary_emb), turn(key, rotary_emb)
        return attn.out_layer(mix(query, key, attn.to_value(context).unflatten(-1, heads)))


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], or [b, c, h, w] of the image model, timestep [b] (0..1000), encoder_hidden_states [b, t, d], y [b, k].

    first_frames [b, k, g, h, w]: takes the place of the first channels of the first frames.
    """
    sample = inputs["sample"]
    if sample.dim() == 4:
        return forward(module, {**inputs, "sample": sample[:, :, None]})[:, :, 0]
    height, width = sample.shape[-2:]
    picture = padded(sample, PATCH)
    if "first_frames" in inputs:
        known = padded(inputs["first_frames"], PATCH)
        picture = picture.clone()
        picture[:, : known.shape[1], : known.shape[2]] = known
    sizes = (picture.shape[2], picture.shape[3] // PATCH, picture.shape[4] // PATCH)
    device = sample.device
    words = module.text_embeddings(inputs["encoder_hidden_states"])
    time = _time(module, inputs["timestep"], sample.dtype) + module.pooled_text_embeddings(inputs["y"])
    turns = cos_sin([places_of((words.shape[1],), module.refit_words.on(device))])
    for block in module.text_transformer_blocks:
        words = block(words, time, turns)
    first, *sides = module.refit_frequencies.on(device)
    shrink = _shrink(module.config, height * width)
    turns = cos_sin([places_of(sizes, [first, *(values / shrink for values in sides)])])
    cells = module.visual_embeddings(picture.movedim(1, -1))
    tokens = cells.flatten(1, 3)
    for block in module.visual_transformer_blocks:
        tokens = block(tokens, words, time, turns, None)
    return module.out_layer(tokens.unflatten(1, sizes), None, time).movedim(-1, 1)[..., :height, :width]


def _shrink(config: Any, cells: int) -> float:
    if config.model_dim == IMAGE or not config.visual_cond:
        return 1.0
    return SHRINK_MORE if config.model_dim == LARGE and cells >= MANY_CELLS else SHRINK


def _time(module: nn.Module, timestep: Tensor, dtype: torch.dtype) -> Tensor:
    embed, half = module.time_embeddings, module.config.model_dim // 2
    if timestep.device not in module.refit_waves:
        powers = torch.arange(half, dtype=torch.float32) / half
        module.refit_waves[timestep.device] = torch.exp(-math.log(THETA) * powers).to(timestep.device)
    turned = timestep[:, None] * module.refit_waves[timestep.device]
    return embed.out_layer(embed.activation(embed.in_layer(torch.cat([turned.cos(), turned.sin()], dim=-1).to(dtype))))
