"""Qwen-Image 2.1 on a device, from words to a picture. In: canonical shapes. Out: diffusers' QwenImage21Transformer2DModel.

`timestep` is sigma (0..1). Words come before the picture: each sees those before it, and the picture sees all. Words are changed as at time zero.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import CosSin, mix, turn
from .configuration import count, even_axes, need
from .patches import from_tokens, grid, padded, to_tokens
from .qwen_image import AXES, THETA, text_angles
from .rotation import Frequencies, cos_sin
from .spec import Shapes

# The vision model's slots stand for so many cells on each side.
SLOT = 2
# Of words and of the picture.
Parts = tuple[Tensor, Tensor]


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
        block.forward = MethodType(_block, block)
    return module


class WordsBefore:
    """Attention in two parts: the first tokens, each with those before it, and the others with all."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, rotation: CosSin, before: Tensor, seen: Tensor | None) -> Tensor:
        head = (-1, attn.norm_q.weight.shape[0])
        query, key, value = (layer(hidden_states).unflatten(-1, head) for layer in (attn.to_q, attn.to_k, attn.to_v))
        query, key = turn(attn.norm_q(query), rotation), turn(attn.norm_k(key), rotation)
        words = before.shape[-1]
        said = mix(query[:, :words], key[:, :words], value[:, :words], before)
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
    early, gate, late, late_gate = module.modulation(time).chunk(4, dim=-1)
    factors = [_parts(part) for part in (1 + early, gate.tanh(), 1 + late, late_gate.tanh())]
    scale = _parts(1 + module.norm_out.linear(functional.silu(time)))
    turns = _turns(module.refit_frequencies.on(sample.device), count_of_words, rows, columns)
    masks = _masks(inputs.get("attention_mask"), count_of_words, tokens)
    for block in module.transformer_blocks:
        tokens = block(tokens, factors, turns, masks)
    out = module.proj_out(_times(module.norm_out.norm(tokens), scale, count_of_words)[:, count_of_words:])
    return from_tokens(out, rows, columns, 1)[..., :height, :width]


def _block(block: nn.Module, tokens: Tensor, factors: list[Parts], turns: CosSin, masks: tuple[Tensor, Tensor | None]) -> Tensor:
    early, gate, late, late_gate = factors
    before, seen = masks
    words = before.shape[-1]
    looked = block.attn(_times(block.img_norm1(tokens), early, words), rotation=turns, before=before, seen=seen)
    tokens = tokens + _times(looked, gate, words)
    return tokens + _times(block.img_mlp(_times(block.img_norm2(tokens), late, words)), late_gate, words)


def _parts(values: Tensor) -> Parts:
    """`values` [2 b, width], of the picture's times, then of time zero, which words have: each [b, 1, width]."""
    picture, words = values[:, None].chunk(2)
    return words, picture


def _times(values: Tensor, factors: Parts, words: int) -> Tensor:
    """Words and the picture behind them, each by its own factor."""
    parts = values.split([words, values.shape[1] - words], dim=1)
    return torch.cat([part * factor for part, factor in zip(parts, factors, strict=True)], dim=1)


def _masks(mask: Tensor | None, words: int, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
    """What each word sees of the words, and what the picture sees of all tokens (None: everything). `mask` [b, words] leaves words out."""
    before = torch.ones(words, words, dtype=torch.bool, device=tokens.device).tril()
    if mask is None:
        return before, None
    hidden = mask < 0.5
    # A word that is left out sees itself, so that its row is not empty.
    before = before & (~hidden[:, None, None] | torch.eye(words, dtype=torch.bool, device=tokens.device))
    return before, functional.pad(~hidden, (0, tokens.shape[1] - words), value=True)[:, None, None]


def _turns(frequencies: list[Tensor], words: int, rows: int, columns: int) -> CosSin:
    """Words stand on the diagonal; the picture behind them, around the middle of its sides."""
    first, down, right = frequencies
    row, column = grid(rows, columns, first.device)
    place = [
        (words * first).expand(len(row), -1),
        (row - (rows - rows // 2))[:, None] * down,
        (column - (columns - columns // 2))[:, None] * right,
    ]
    return cos_sin([torch.cat([text_angles(frequencies, 0, words), torch.cat(place, dim=-1)])])
