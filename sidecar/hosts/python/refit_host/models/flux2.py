"""flux2 (dev, klein) on a device. In: canonical shapes. Out: diffusers' Flux2Transformer2DModel, called as ComfyUI calls its own.

`timestep` is sigma (0..1) and `guidance` the plain number; both are scaled and turned into waves in f32. One token is one cell of the latent.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import FUSED_JOINT, FusedJointAttention, ParallelAttention, fuse_parts
from .configuration import count, even_axes, need
from .patches import from_tokens, grid, to_tokens
from .references import references
from .rotation import Frequencies, cos_sin
from .spec import Shapes

THETA = 2000.0
AXES = (1, 1, 1, 1)
# A reference picture stands so far from the one before.
REFERENCE_STEP = 10


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "img_in.weight")
    head = need(shapes, "double_blocks.0.img_attn.norm.key_norm.weight")[0]
    return {
        "patch_size": 1,
        "in_channels": channels,
        "out_channels": need(shapes, "final_layer.linear.weight")[0],
        "num_layers": count(shapes, "double_blocks"),
        "num_single_layers": count(shapes, "single_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": need(shapes, "txt_in.weight")[1],
        "timestep_guidance_channels": need(shapes, "time_in.in_layer.weight")[1],
        "mlp_ratio": need(shapes, "double_blocks.0.img_mlp.2.weight")[1] / width,
        "axes_dims_rope": list(even_axes(head, AXES)),
        "rope_theta": int(THETA),
        "guidance_embeds": "guidance_in.in_layer.weight" in shapes,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import Flux2Transformer2DModel

    with torch.device("meta"):
        return Flux2Transformer2DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)
    for block in module.transformer_blocks:
        fuse_parts(block.attn, FUSED_JOINT)
        block.attn.set_processor(FusedJointAttention())
    for block in module.single_transformer_blocks:
        block.attn.set_processor(ParallelAttention())
    return module


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]; guidance [b] where the structure has it, reference latents [1 or b, c, h, w]."""
    sample, words = inputs["sample"], inputs["encoder_hidden_states"]
    rows, columns = sample.shape[-2:]
    pictures = [sample, *references(inputs)]
    turns = cos_sin([_angles(module.refit_frequencies.on(sample.device), words.shape[1], pictures)])
    time = _times(module.time_guidance_embed, inputs, sample.dtype)
    for_picture, for_words = module.double_stream_modulation_img(time), module.double_stream_modulation_txt(time)
    tokens = module.x_embedder(torch.cat([to_tokens(picture, 1) for picture in pictures], dim=1))
    words = module.context_embedder(words)
    for block in module.transformer_blocks:
        words, tokens = block(tokens, words, for_picture, for_words, turns)
    both, for_both = torch.cat([words, tokens], dim=1), module.single_stream_modulation(time)
    for block in module.single_transformer_blocks:
        both = block(both, None, for_both, turns)
    own = both[:, words.shape[1] : words.shape[1] + rows * columns]
    return from_tokens(module.proj_out(module.norm_out(own, time)), rows, columns, 1)


def _times(embed: nn.Module, inputs: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    time = embed.timestep_embedder(embed.time_proj(inputs["timestep"] * 1000).to(dtype))
    if embed.guidance_embedder is None:
        return time
    return time + embed.guidance_embedder(embed.time_proj(inputs["guidance"] * 1000).to(dtype))


def _angles(frequencies: list[Tensor], words: int, pictures: list[Tensor]) -> Tensor:
    """Words at (0, 0, 0, i), pictures at (10 * number, row, column, 0)."""
    time, down, across, along = frequencies
    device = time.device
    parts = [functional.pad(torch.arange(words, device=device)[:, None] * along, (len(time) + len(down) + len(across), 0))]
    for number, picture in enumerate(pictures):
        row, column = grid(picture.shape[-2], picture.shape[-1], device)
        place = (float(number * REFERENCE_STEP) * time).expand(len(row), -1)
        parts.append(functional.pad(torch.cat([place, row[:, None] * down, column[:, None] * across], dim=-1), (0, len(along))))
    return torch.cat(parts)
