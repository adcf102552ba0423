"""HiDream-I1 on a device. In: canonical shapes. Out: diffusers' HiDreamImageTransformer2DModel, called as ComfyUI calls its own.

`timestep` runs to 1000, and the output has ComfyUI's sign. Every block sees another layer of the second encoder; the last layer stands for those that are not given.
All experts work on all tokens, those that were not chosen for nothing: a choice by indices would be no graph of fixed size, and no bits that stay.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import CosSin, mix, turn
from .configuration import count, even_axes, need
from .patches import from_tokens, padded, to_tokens
from .rotation import Frequencies, cos_sin, places_of
from .spec import Shapes

PATCH = 2
HEAD = 128
THETA = 10000.0
AXES = (2, 1, 1)
CHOSEN = 2


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, patch = need(shapes, "x_embedder.proj.weight")
    doubles, singles = count(shapes, "double_stream_blocks"), count(shapes, "single_stream_blocks")
    first, last = (need(shapes, f"caption_projection.{number}.linear.weight")[1] for number in (0, doubles + singles))
    return {
        "patch_size": PATCH,
        "in_channels": patch // PATCH**2,
        "out_channels": need(shapes, "final_layer.linear.weight")[0] // PATCH**2,
        "num_layers": doubles,
        "num_single_layers": singles,
        "attention_head_dim": HEAD,
        "num_attention_heads": width // HEAD,
        "caption_channels": [last, first],
        "text_emb_dim": need(shapes, "p_embedder.pooled_embedder.linear_1.weight")[1],
        "num_routed_experts": count(shapes, "double_stream_blocks.0.block.ff_i.experts"),
        "num_activated_experts": CHOSEN,
        "axes_dims_rope": even_axes(HEAD, AXES),
        "llama_layers": list(range(doubles + singles)),
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import HiDreamImageTransformer2DModel

    with torch.device("meta"):
        return HiDreamImageTransformer2DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)
    for outer in (*module.double_stream_blocks, *module.single_stream_blocks):
        outer.block.attn1.set_processor(StreamAttention())
        outer.block.ff_i.gate.forward = MethodType(_gate, outer.block.ff_i.gate)
        outer.block.ff_i.forward = MethodType(_experts, outer.block.ff_i)
    return module


class StreamAttention:
    """Patches before words, each with layers of their own, or all with the same ones; queries and keys are normalised over all heads."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, hidden_states_masks: None = None, encoder_hidden_states: Tensor | None = None,
        image_rotary_emb: CosSin | None = None,
    ) -> Any:  # fmt: skip
        heads = (attn.heads, -1)
        query, key = attn.q_rms_norm(attn.to_q(hidden_states)), attn.k_rms_norm(attn.to_k(hidden_states))
        value, patches = attn.to_v(hidden_states), hidden_states.shape[1]
        if encoder_hidden_states is not None:
            query = torch.cat([query, attn.q_rms_norm_t(attn.to_q_t(encoder_hidden_states))], dim=1)
            key = torch.cat([key, attn.k_rms_norm_t(attn.to_k_t(encoder_hidden_states))], dim=1)
            value = torch.cat([value, attn.to_v_t(encoder_hidden_states)], dim=1)
        query, key = (turn(values.unflatten(-1, heads), image_rotary_emb) for values in (query, key))
        mixed = mix(query, key, value.unflatten(-1, heads))
        if encoder_hidden_states is None:
            return attn.to_out(mixed)
        return attn.to_out(mixed[:, :patches]), attn.to_out_t(mixed[:, patches:])


def _gate(self: nn.Module, tokens: Tensor) -> Tensor:
    return functional.linear(tokens, self.weight).softmax(dim=-1)


def _experts(self: nn.Module, tokens: Tensor) -> Tensor:
    scores = self.gate(tokens)
    best = scores.topk(self.num_activated_experts, dim=-1)
    weights = torch.zeros_like(scores).scatter(-1, best.indices, best.values)
    out = self.shared_experts(tokens)
    for number, expert in enumerate(self.experts):
        out = out + weights[..., number : number + 1] * expert(tokens)
    return out


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (0..1000), encoder_hidden_states [b, t, d], encoder_hidden_states_layers [b, layers, n, k], y [b, p]."""
    sample, layers = inputs["sample"], inputs["encoder_hidden_states_layers"]
    height, width = sample.shape[-2:]
    picture = padded(sample, PATCH)
    rows, columns = picture.shape[-2] // PATCH, picture.shape[-1] // PATCH
    time = module.t_embedder(inputs["timestep"], sample.dtype) + module.p_embedder(inputs["y"])
    tokens = module.x_embedder(to_tokens(picture, PATCH, channels_last=True))
    *projections, last = module.caption_projection
    seen = [project(layers[:, min(number, layers.shape[1] - 1)]) for number, project in enumerate(projections)]
    words = torch.cat([last(inputs["encoder_hidden_states"]), seen[-1]], dim=1)
    places = places_of((1, rows, columns), module.refit_frequencies.on(sample.device))
    turns = cos_sin([functional.pad(places, (0, 0, 0, words.shape[1] + seen[0].shape[1]))])
    kept, patches = words.shape[1], tokens.shape[1]
    for block, more in zip(module.double_stream_blocks, seen, strict=False):
        tokens, words = block(tokens, None, torch.cat([words, more], dim=1), time, turns)
        words = words[:, :kept]
    both = torch.cat([tokens, words], dim=1)
    for block, more in zip(module.single_stream_blocks, seen[len(module.double_stream_blocks) :], strict=True):
        both = block(torch.cat([both, more], dim=1), None, None, time, turns)[:, : patches + kept]
    out = module.final_layer(both[:, :patches], time)
    return -from_tokens(out, rows, columns, PATCH, channels_last=True)[..., :height, :width]
