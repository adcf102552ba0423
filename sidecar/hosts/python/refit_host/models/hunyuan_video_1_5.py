"""HunyuanVideo 1.5 on a device. In: canonical shapes. Out: diffusers' HunyuanVideo15Transformer3DModel, called as ComfyUI calls its own.

`timestep` runs to 1000. What is seen in a first picture, letters of a second encoder and words stand in this order, each with a mark of its kind; the first two may be missing.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .configuration import need
from .hunyuan_video import adapt as adapt
from .hunyuan_video import hidden_words, refined, sizes_of, video
from .spec import Shapes

WORDS, LETTERS, PICTURE = range(3)
REPEATED = ("HunyuanVideo15TransformerBlock",)


def config_of(shapes: Shapes) -> dict[str, Any]:
    return sizes_of(shapes) | {
        "text_embed_2_dim": need(shapes, "byt5_in.fc1.weight")[1],
        "image_embed_dim": need(shapes, "vision_in.proj.0.weight")[0],
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import HunyuanVideo15Transformer3DModel

    with torch.device("meta"):
        return HunyuanVideo15Transformer3DModel(**config)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b] (0..1000), encoder_hidden_states [b, t, d].

    Optionally attention_mask [b, t], letters [b, l, k] and encoder_hidden_states_image [b, i, m].
    """
    sample, timestep = inputs["sample"], inputs["timestep"]
    time = module.time_embed.timestep_embedder(module.time_embed.time_proj(timestep).to(sample.dtype))
    hidden = hidden_words(inputs, sample.dtype)
    marks = module.cond_type_embed(torch.arange(3, device=sample.device))
    parts = [refined(module.context_embedder, inputs["encoder_hidden_states"], timestep, hidden) + marks[WORDS]]
    if "letters" in inputs:
        parts.insert(0, module.context_embedder_2(inputs["letters"]) + marks[LETTERS])
    if "encoder_hidden_states_image" in inputs:
        parts.insert(0, module.image_embedder(inputs["encoder_hidden_states_image"]) + marks[PICTURE])
    return video(module, sample, torch.cat(parts, dim=1), time, hidden)
