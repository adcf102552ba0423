"""Qwen-Image, Edit and Layered on a device. In: canonical shapes. Out: diffusers' QwenImageTransformer2DModel, called as ComfyUI calls its own.

`timestep` is sigma (0..1). Positions stand around the middle of each picture; reference latents follow it, each one further on the first axis.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .attention import JointAttention
from .configuration import count, even_axes, need
from .controls import added, controls
from .patches import from_tokens, grid, padded, to_tokens
from .references import references
from .rotation import Frequencies, cos_sin
from .spec import Shapes

FUSED = "qwen_image"
PATCH = 2
THETA = 10000.0
AXES = (2, 7, 7)
# Names that only say what a checkpoint is: the reference pictures of Edit 2511 are seen at time zero.
CLEAN_REFERENCES = "__index_timestep_zero__"


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "img_in.weight")
    (head,) = need(shapes, "transformer_blocks.0.attn.norm_q.weight")
    return {
        "patch_size": PATCH,
        "in_channels": channels,
        "out_channels": need(shapes, "proj_out.weight")[0] // PATCH**2,
        "num_layers": count(shapes, "transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": need(shapes, "txt_in.weight")[1],
        "axes_dims_rope": list(even_axes(head, AXES)),
        "zero_cond_t": CLEAN_REFERENCES in shapes,
        "use_additional_t_cond": "time_text_embed.addition_t_embedding.weight" in shapes,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import QwenImageTransformer2DModel

    with torch.device("meta"):
        return QwenImageTransformer2DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)
    for block in module.transformer_blocks:
        block.attn.set_processor(JointAttention())
    return module


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]; optionally attention_mask [b, t], reference latents [1 or b, c, f, h, w]
    and what ControlNets add behind each block [b, patches, width].
    """
    sample, words = inputs["sample"], inputs["encoder_hidden_states"]
    others = references(inputs)
    pictures = [padded(picture, PATCH) for picture in (sample, *others)]
    angles = [_angles(module.refit_frequencies.on(sample.device), picture, index) for index, picture in enumerate(pictures)]
    frames, rows, columns = pictures[0].shape[2], pictures[0].shape[3] // PATCH, pictures[0].shape[4] // PATCH
    own = frames * rows * columns
    tokens = module.img_in(torch.cat([to_tokens(picture, PATCH) for picture in pictures], dim=1))
    count_of_words = words.shape[1]
    first = max(rows // 2, columns // 2)
    turns = cos_sin([torch.cat([text_angles(module.refit_frequencies.on(sample.device), first, count_of_words), *angles])])
    mask = _joint_mask(inputs.get("attention_mask"), tokens)
    words = module.txt_in(module.txt_norm(words))
    time, clean = inputs["timestep"], None
    if module.zero_cond_t:
        time = torch.cat([time, torch.zeros_like(time)])
        clean = (torch.arange(tokens.shape[1], device=tokens.device) >= own).int()[None]
    layers = torch.zeros(time.shape[0], dtype=torch.long, device=time.device) if module.config.use_additional_t_cond else None
    time = module.time_text_embed(time, tokens, layers)
    more = controls(inputs, "block_controls", len(module.transformer_blocks))
    for number, block in enumerate(module.transformer_blocks):
        words, tokens = block(tokens, words, mask, time, turns, modulate_index=clean)
        if more is not None:
            tokens = added(tokens, more[number])
    tokens = module.proj_out(module.norm_out(tokens, time[: sample.shape[0]]))[:, :own]
    out = from_tokens(tokens, rows, columns, PATCH, frames=frames)
    return out[..., : sample.shape[-2], : sample.shape[-1]]


def _joint_mask(mask: Tensor | None, tokens: Tensor) -> Tensor | None:
    """What is added to the scores: words that the mask leaves out count nothing, pictures always."""
    if mask is None:
        return None
    hidden = (mask.to(tokens.dtype) - 1) * torch.finfo(tokens.dtype).max
    return torch.cat([hidden, hidden.new_zeros(tokens.shape[0], tokens.shape[1])], dim=1)[:, None, None]


def text_angles(frequencies: list[Tensor], first: int, words: int) -> Tensor:
    """Words stand on the diagonal, from `first` on: here after the half of the picture."""
    place = torch.arange(first, first + words, device=frequencies[0].device)[:, None]
    return torch.cat([place * axis for axis in frequencies], dim=-1)


def _angles(frequencies: list[Tensor], picture: Tensor, index: int) -> Tensor:
    """Angles [frames * rows * columns, head / 2]; a single frame stands at `index`, several at their own numbers."""
    frames, rows, columns = picture.shape[2], picture.shape[3] // PATCH, picture.shape[4] // PATCH
    row, column = grid(rows, columns, picture.device)
    place = [
        torch.arange(frames, device=picture.device) if frames > 1 else torch.full((1,), index, device=picture.device),
        row - rows // 2,
        column - columns // 2,
    ]
    first, second, third = (values[:, None] * axis for values, axis in zip(place, frequencies, strict=True))
    picture_angles = torch.cat([second, third], dim=-1)
    return torch.cat([first[:, None].expand(-1, rows * columns, -1), picture_angles[None].expand(frames, -1, -1)], dim=-1).reshape(
        frames * rows * columns, -1
    )
