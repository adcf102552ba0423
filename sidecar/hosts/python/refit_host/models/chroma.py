"""Chroma on a device: two-stream and single blocks, modulated by one small network instead of a layer in every block.

Out: diffusers' ChromaTransformer2DModel, called as ComfyUI calls its own.

`timestep` is sigma (0..1), `guidance` the plain number (0 in an ordinary run, and where none is given); both and the number of each modulation are turned into waves in f32.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import one_projection
from .configuration import count, even_axes, need
from .controls import added, controls
from .patches import from_tokens, grid, padded, to_tokens
from .rotation import Frequencies, cos_sin
from .spec import Shapes

PATCH = 2
THETA = 10000.0
AXES = (2, 7, 7)
# Rows of the table of modulations, whatever the depth: three for each of 38 single blocks, six for picture and words of 19 double ones, two at the end.
MODULATIONS = 344
TIME_CHANNELS, PLACE_CHANNELS = 16, 32


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "img_in.weight")
    (head,) = need(shapes, "double_blocks.0.img_attn.norm.key_norm.weight")
    inner, taken = need(shapes, "distilled_guidance_layer.in_proj.weight")
    return {
        "in_channels": channels,
        "out_channels": need(shapes, "final_layer.linear.weight")[0],
        "num_layers": count(shapes, "double_blocks"),
        "num_single_layers": count(shapes, "single_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": need(shapes, "txt_in.weight")[1],
        "axes_dims_rope": list(even_axes(head, AXES)),
        "approximator_num_channels": taken,
        "approximator_hidden_dim": inner,
        "approximator_layers": count(shapes, "distilled_guidance_layer.layers"),
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import ChromaTransformer2DModel

    with torch.device("meta"):
        module = ChromaTransformer2DModel(**config)
    # Tables of positions and modulations are computed where they are needed.
    module.pos_embed = module.time_text_embed = None
    return module


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)
    module.refit_waves = {}
    return one_projection(module)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]; optionally guidance [b] and what ControlNets add
    behind double and single blocks [b, patches, width].
    """
    sample, words = inputs["sample"], module.context_embedder(inputs["encoder_hidden_states"])
    height, width = sample.shape[-2:]
    picture = padded(sample, PATCH)
    rows, columns = picture.shape[-2] // PATCH, picture.shape[-1] // PATCH
    table = module.distilled_guidance_layer(_asked(module, inputs).to(sample.dtype))
    turns = cos_sin([_angles(module.refit_frequencies.on(sample.device), words.shape[1], rows, columns)])
    tokens = module.x_embedder(to_tokens(picture, PATCH))
    doubles, singles = len(module.transformer_blocks), len(module.single_transformer_blocks)
    double, single = controls(inputs, "double_controls", doubles), controls(inputs, "single_controls", singles)
    for number, block in enumerate(module.transformer_blocks):
        for_picture, for_words = (3 * singles + 6 * (number + first) for first in (0, doubles))
        both = torch.cat([table[:, for_picture : for_picture + 6], table[:, for_words : for_words + 6]], dim=1)
        words, tokens = block(tokens, words, both, turns)
        if double is not None:
            tokens = added(tokens, double[number])
    joint = torch.cat([words, tokens], dim=1)
    for number, block in enumerate(module.single_transformer_blocks):
        joint = block(joint, table[:, 3 * number : 3 * number + 3], turns)
        if single is not None:
            joint = torch.cat([joint[:, : words.shape[1]], added(joint[:, words.shape[1] :], single[number])], dim=1)
    out = module.proj_out(module.norm_out(joint[:, words.shape[1] :], table[:, -2:]))
    return from_tokens(out, rows, columns, PATCH)[..., :height, :width]


def _asked(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What the network of modulations is asked [b, modulations, channels]: time, guidance, and the number of each modulation as waves."""
    device = inputs["timestep"].device
    if device not in module.refit_waves:
        module.refit_waves[device] = [_frequencies(channels).to(device) for channels in (TIME_CHANNELS, PLACE_CHANNELS)]
    times, places = module.refit_waves[device]

    def waves(values: Tensor, frequencies: Tensor) -> Tensor:
        turned = 1000 * values.float()[:, None] * frequencies
        return torch.cat([turned.cos(), turned.sin()], dim=-1)

    run = torch.cat([waves(inputs["timestep"], times), waves(inputs.get("guidance", torch.zeros_like(inputs["timestep"])), times)], dim=-1)
    numbers = waves(torch.arange(MODULATIONS, device=times.device), places)
    return torch.cat([run[:, None].expand(-1, MODULATIONS, -1), numbers[None].expand(len(run), -1, -1)], dim=-1)


def _frequencies(channels: int) -> Tensor:
    """In f32 by the formula of both libraries: the last numbers are turned 343,000 times as far, where one last bit of a frequency shows."""
    return torch.exp(-math.log(THETA) * torch.arange(channels // 2, dtype=torch.float32) / (channels // 2))


def _angles(frequencies: list[Tensor], words: int, rows: int, columns: int) -> Tensor:
    """Words at the origin, patches at (0, row, column)."""
    first, down, across = frequencies
    row, column = grid(rows, columns, first.device)
    picture = functional.pad(torch.cat([row[:, None] * down, column[:, None] * across], dim=-1), (len(first), 0))
    return functional.pad(picture, (0, 0, words, 0))
