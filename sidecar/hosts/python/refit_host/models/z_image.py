"""Z-Image on a device (Lumina2 class of ComfyUI). In: canonical shapes. Out: diffusers' ZImageTransformer2DModel, called as ComfyUI calls its own.

One batch instead of lists of pictures, positions computed where they are needed, queries, keys and values as the one matrix that checkpoints hold.
ComfyUI's sign and time: `timestep` is sigma (0..1), the module gets 1 - sigma, and the output is negated.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import FUSED_SELF, FusedSelfAttention, fuse_parts
from .configuration import count, even_axes, need
from .patches import from_tokens, padded, to_tokens
from .rotation import Frequencies, cos_sin, places_of
from .spec import Shapes

FUSED = "z_image"
PATCH = 2
# Text and picture are padded to multiples of this with a token of their own.
MULTIPLE = 32
THETA = 256.0
# The published model splits heads of 128 channels into 32 for text and 48 for rows and columns.
AXES = (2, 3, 3)


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, text = need(shapes, "cap_embedder.1.weight")
    (head,) = need(shapes, "layers.0.attention.q_norm.weight")
    return {
        "in_channels": need(shapes, "x_embedder.weight")[1] // PATCH**2,
        "dim": width,
        "n_layers": count(shapes, "layers"),
        "n_refiner_layers": count(shapes, "noise_refiner"),
        "n_heads": width // head,
        "n_kv_heads": width // head,
        "cap_feat_dim": text,
        "rope_theta": THETA,
        "axes_dims": list(even_axes(head, AXES)),
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import ZImageTransformer2DModel
    from diffusers.models.transformers.transformer_z_image import FeedForward, FinalLayer, TimestepEmbedder

    with torch.device("meta"):
        module = ZImageTransformer2DModel(**config)
        # Sizes that diffusers derives from the width, and that a smaller relative chooses otherwise.
        inner = need(shapes, "layers.0.feed_forward.w1.weight")[0]
        for block in (*module.noise_refiner, *module.context_refiner, *module.layers):
            block.feed_forward = FeedForward(config["dim"], inner)
            if block.modulation:
                block.adaLN_modulation[0] = nn.Linear(need(shapes, "layers.0.adaLN_modulation.0.weight")[1], 4 * config["dim"])
        middle, frequencies = need(shapes, "t_embedder.mlp.0.weight")
        times = need(shapes, "t_embedder.mlp.2.weight")[0]
        module.t_embedder = TimestepEmbedder(times, middle, frequencies)
        final = FinalLayer(config["dim"], need(shapes, "final_layer.linear.weight")[0])
        final.adaLN_modulation[1] = nn.Linear(times, config["dim"])
        module.all_final_layer["2-1"] = final
    return module


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(tuple(config["axes_dims"]), config["rope_theta"])
    for block in (*module.noise_refiner, *module.context_refiner, *module.layers):
        fuse_parts(block.attention, FUSED_SELF)
        block.attention.set_processor(FusedSelfAttention())
    return module


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]."""
    sample, context = inputs["sample"], inputs["encoder_hidden_states"]
    height, width = sample.shape[-2:]
    picture = padded(sample, PATCH)
    rows, columns = picture.shape[-2] // PATCH, picture.shape[-1] // PATCH
    time = module.t_embedder((1 - inputs["timestep"]) * module.t_scale).to(sample.dtype)
    device = sample.device
    words = _fill(module.cap_embedder(context), module.cap_pad_token)
    tokens = _fill(module.all_x_embedder["2-1"](to_tokens(picture, PATCH, channels_last=True)), module.x_pad_token)
    text_angles, picture_angles = angles(module.refit_frequencies.on(device), words.shape[1], rows, columns, tokens.shape[1])
    turned = cos_sin([text_angles])
    for block in module.context_refiner:
        words = block(words, None, turned)
    turned = cos_sin([picture_angles])
    for block in module.noise_refiner:
        tokens = block(tokens, None, turned, time)
    both = torch.cat([words, tokens], dim=1)
    turned = cos_sin([torch.cat([text_angles, picture_angles])])
    for block in module.layers:
        both = block(both, None, turned, time)
    out = module.all_final_layer["2-1"](both, c=time)[:, words.shape[1] : words.shape[1] + rows * columns]
    return -from_tokens(out, rows, columns, PATCH, channels_last=True)[..., :height, :width]


def _fill(tokens: Tensor, token: Tensor) -> Tensor:
    """Appends `token` up to the next multiple of tokens."""
    lacking = -tokens.shape[1] % MULTIPLE
    return torch.cat([tokens, token.to(tokens.dtype).expand(tokens.shape[0], lacking, -1)], dim=1) if lacking else tokens


def angles(frequencies: list[Tensor], words: int, rows: int, columns: int, tokens: int, first: float = 1.0) -> tuple[Tensor, Tensor]:
    """Angles [n, head / 2] of text, at (first + i, 0, 0), and picture, at (first + words, row, column); tokens that fill up stand at the origin."""
    device = frequencies[0].device
    time, *sides = frequencies
    text = functional.pad((first + torch.arange(words, device=device))[:, None] * time, (0, sum(map(len, sides))))
    picture = torch.cat([((first + words) * time).expand(rows * columns, -1), places_of((rows, columns), sides)], dim=-1)
    return text, functional.pad(picture, (0, 0, 0, tokens - rows * columns))
