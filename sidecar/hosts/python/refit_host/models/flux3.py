"""Flux.3 (klein, also distilled) on a device. In: canonical shapes. Out: diffusers' Flux3Transformer2DModel, called on unpacked latents.

`timestep` is sigma (0..1); a distilled model also takes `target_timestep`, the sigma that the step jumps to. Both are scaled and turned into waves
in f32. Words and reference pictures stand at time 0. One token is one cell of the latent.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import CosSin, mix, turn
from .configuration import count, even_axes, need
from .patches import from_tokens, grid, to_tokens
from .references import references
from .rotation import Frequencies, cos_sin
from .spec import Shapes

THETA = 10000.0
AXES = (1, 1, 1, 1)
# The model was trained on places of pictures half as far apart.
SCALE = 0.5
# Heads that only training looks at; some files hold them.
LEFT_OUT = r"repa_projectors\."


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "emb_in.image.weight")
    (head,) = need(shapes, "single_blocks.0.norm.query_norm.weight")
    return {
        "in_channels": channels,
        "cond_in_channels": need(shapes, "emb_in.image_cond.weight")[1],
        "num_layers": count(shapes, "txt_mode_blocks"),
        "num_single_layers": count(shapes, "single_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": need(shapes, "txt_in.weight")[1],
        "timestep_channels": need(shapes, "time_in.in_layer.weight")[1],
        "mlp_ratio": need(shapes, "single_blocks.0.mlp_out.weight")[1] / width,
        "axes_dims_rope": list(even_axes(head, AXES)),
        "rope_theta": int(THETA),
        "flow_map": "ref_time_in.in_layer.weight" in shapes,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import Flux3Transformer2DModel

    with torch.device("meta"):
        return Flux3Transformer2DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)
    module.set_attn_processor(NormedAttention())
    return module


class NormedAttention:
    """Normalised and turned queries and keys; every token sees every other."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, attention_mask: None = None, image_rotary_emb: CosSin | None = None
    ) -> Tensor:
        heads = (attn.heads, -1)
        query = turn(attn.norm_q(attn.to_q(hidden_states).unflatten(-1, heads)), image_rotary_emb)
        key = turn(attn.norm_k(attn.to_k(hidden_states).unflatten(-1, heads)), image_rotary_emb)
        return attn.to_out[0](mix(query, key, attn.to_v(hidden_states).unflatten(-1, heads)))


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]; target_timestep [b] of a distilled model, reference latents [1 or b, k, h, w]."""
    sample, words, seen = inputs["sample"], inputs["encoder_hidden_states"], references(inputs)
    rows, columns = sample.shape[-2:]
    frequencies = module.refit_frequencies.on(sample.device)
    time, still = (_time(module, inputs, at, sample.dtype) for at in (inputs["timestep"], torch.zeros_like(inputs["timestep"])))
    streams = {
        "txt": (module.context_embedder(words), _words(frequencies, words.shape[1]), still, module.txt_mode_blocks),
        "image": (_tokens(module, "image", [sample]), _places(frequencies, sample, 0), time, module.mode_blocks["image"]),
    }
    if seen:
        places = torch.cat([_places(frequencies, picture, -1 - number) for number, picture in enumerate(seen)])
        streams["image_cond"] = (_tokens(module, "image_cond", seen), places, still, module.mode_blocks["image_cond"])
    found, changes = {}, {}
    for name, (tokens, places, at, blocks) in streams.items():
        at, turns = functional.silu(at), cos_sin([places])
        early = module.early_stream_modulations[name](at)
        for block in blocks:
            tokens = block(tokens, early, turns)
        found[name], changes[name] = tokens, module.single_stream_modulations[name](at)
    words, tokens = found.pop("txt"), torch.cat(list(found.values()), dim=1)
    change = changes["image"]
    if seen:
        change = torch.cat([changes[name].expand(-1, part.shape[1], -1) for name, part in found.items()], dim=1)
    turns = cos_sin([torch.cat([places for _, places, *_ in streams.values()])])
    for block in module.single_transformer_blocks:
        words, tokens = block(tokens, words, change, changes["txt"], turns)
    return from_tokens(module.proj_out(module.norm_out(tokens[:, : rows * columns], time)), rows, columns, 1)


def _time(module: nn.Module, inputs: Mapping[str, Tensor], at: Tensor, dtype: torch.dtype) -> Tensor:
    """[b] -> [b, 1, d]."""
    time = module.timestep_embedder(module.time_proj(at * 1000).to(dtype))
    if module.target_timestep_embedder is not None:
        time = time + module.target_timestep_embedder(module.time_proj(inputs["target_timestep"] * 1000).to(dtype))
    return time[:, None]


def _tokens(module: nn.Module, stream: str, pictures: list[Tensor]) -> Tensor:
    return module.x_embedders[stream](torch.cat([to_tokens(picture, 1) for picture in pictures], dim=1))


def _words(frequencies: list[Tensor], count_: int) -> Tensor:
    """Words at (0, 0, 0, i)."""
    *before, along = frequencies
    return functional.pad(torch.arange(count_, device=along.device)[:, None] * along, (sum(map(len, before)), 0))


def _places(frequencies: list[Tensor], picture: Tensor, number: int) -> Tensor:
    """A picture at (0, row / 2, column / 2, number): 0 the one that is made, -1, -2, ... the references."""
    time, down, across, along = frequencies
    row, column = grid(picture.shape[-2], picture.shape[-1], time.device)
    turned = torch.cat([SCALE * row[:, None] * down, SCALE * column[:, None] * across, (number * along).expand(len(row), -1)], dim=-1)
    return functional.pad(turned, (len(time), 0))
