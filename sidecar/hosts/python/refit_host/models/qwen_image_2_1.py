"""Qwen-Image 2.1 on a device, from words to a picture. In: canonical shapes. Out: diffusers' QwenImage21Transformer2DModel.

`timestep` is sigma (0..1). Words come before the picture: each sees those before it, and the picture sees all. Words are changed as at time zero.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import CosSin, mix, turn
from .configuration import count, even_axes, need
from .patches import from_tokens, padded, to_tokens
from .rotation import Frequencies, cos_sin
from .spec import Shapes

# The vision model's slots stand for so many cells on each side.
SLOT = 2
THETA = 10000.0
AXES = (2, 7, 7)


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "img_in.weight")
    (head,) = need(shapes, "transformer_blocks.0.attn.norm_q.weight")
    return {
        "patch_size": 1,
        "in_channels": channels,
        "out_channels": need(shapes, "proj_out.weight")[0],
        "num_layers": count(shapes, "transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "context_in_dim": need(shapes, "txt_in.in_layer.weight")[1],
        "mlp_ratio": need(shapes, "transformer_blocks.0.img_mlp.out.weight")[1] // width,
        "axes_dims_rope": tuple(even_axes(head, AXES)),
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import QwenImage21Transformer2DModel

    with torch.device("meta"):
        module = QwenImage21Transformer2DModel(**config)
    # Its tables are no parameters: made where there are values.
    module.time_text_embed.time_proj = type(module.time_text_embed.time_proj)(256)
    module.pos_embed = None
    return module


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)
    for block in module.transformer_blocks:
        block.attn.set_processor(WordsBefore())
    return module


class WordsBefore:
    """Attention in two parts: the first tokens, each with those before it, and the others with all."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, words: int, rotation: CosSin, hidden: Tensor | None) -> Tensor:
        head = (-1, attn.norm_q.weight.shape[0])
        query, key, value = (layer(hidden_states).unflatten(-1, head) for layer in (attn.to_q, attn.to_k, attn.to_v))
        query, key = turn(attn.norm_q(query), rotation), turn(attn.norm_k(key), rotation)
        before = torch.ones(words, words, dtype=torch.bool, device=query.device).tril()
        if hidden is not None:
            # A word that is left out sees itself, so that its row is not empty.
            before = before & (~hidden[:, None, None] | torch.eye(words, dtype=torch.bool, device=query.device))
        said = mix(query[:, :words], key[:, :words], value[:, :words], before)
        seen = None if hidden is None else functional.pad(~hidden, (0, query.shape[1] - words), value=True)[:, None, None]
        return attn.to_out[0](torch.cat([said, mix(query[:, words:], key, value, seen)], dim=1))


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]; optionally attention_mask [b, t]."""
    sample, words = inputs["sample"], module.txt_in(inputs["encoder_hidden_states"])
    height, width = sample.shape[-2:]
    picture = padded(sample, SLOT)
    rows, columns = picture.shape[-2:]
    tokens, count_of_words = torch.cat([words, module.img_in(to_tokens(picture, 1))], dim=1), words.shape[1]
    times = torch.cat([inputs["timestep"], torch.zeros_like(inputs["timestep"])])
    time = module.time_text_embed(times, tokens)
    changes = [_both(part, count_of_words) for part in module.modulation(time).chunk(4, dim=-1)]
    scale = _both(module.norm_out.linear(functional.silu(time)), count_of_words)
    turns = _turns(module.refit_frequencies.on(sample.device), count_of_words, rows, columns)
    mask = inputs.get("attention_mask")
    hidden = None if mask is None else mask < 0.5
    for block in module.transformer_blocks:
        early, gate, late, late_gate = changes
        looked = block.attn(early.scaled(block.img_norm1(tokens)), words=count_of_words, rotation=turns, hidden=hidden)
        tokens = tokens + gate.weighed(looked)
        tokens = tokens + late_gate.weighed(block.img_mlp(late.scaled(block.img_norm2(tokens))))
    out = module.proj_out(scale.scaled(module.norm_out.norm(tokens))[:, count_of_words:])
    return from_tokens(out, rows, columns, 1)[..., :height, :width]


class _Both:
    """A change of words and one of the picture, each [b, 1, width]."""

    def __init__(self, words: Tensor, picture: Tensor, count: int) -> None:
        self._parts, self._count = (words, picture), count

    def scaled(self, values: Tensor) -> Tensor:
        return self._each(values, lambda value, part: value * (1 + part))

    def weighed(self, values: Tensor) -> Tensor:
        return self._each(values, lambda value, part: value * part.tanh())

    def _each(self, values: Tensor, change: Any) -> Tensor:
        sizes = [self._count, values.shape[1] - self._count]
        return torch.cat([change(value, part) for value, part in zip(values.split(sizes, dim=1), self._parts, strict=True)], dim=1)


def _both(values: Tensor, words: int) -> _Both:
    """`values` [2 b, width]: of the picture's times, then of time zero."""
    picture, still = values[:, None].chunk(2)
    return _Both(still, picture, words)


def _turns(frequencies: list[Tensor], words: int, rows: int, columns: int) -> CosSin:
    """Words stand on the diagonal; the picture behind them, around the middle of its sides."""
    first, down, right = frequencies
    device = first.device
    place = torch.arange(words, device=device)[:, None]
    text = torch.cat([place * axis for axis in frequencies], dim=-1)
    row = (torch.arange(rows, device=device) - (rows - rows // 2))[:, None] * down
    column = (torch.arange(columns, device=device) - (columns - columns // 2))[:, None] * right
    grid = [(words * first).expand(rows, columns, -1), row[:, None].expand(-1, columns, -1), column.expand(rows, -1, -1)]
    return cos_sin([torch.cat([text, torch.cat(grid, dim=-1).flatten(0, 1)])])
