"""Wan 2.1 and 2.2 text- and image-to-video. In: canonical shapes. Out: an Exportable of diffusers' WanTransformer3DModel.

Inputs of a step: sample [batch, channels, frames, height, width] (even height and width), timestep (0..1000, f32, one a batch entry),
encoder_hidden_states and, for the Wan 2.1 image models, encoder_hidden_states_image (CLIP features).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import nn
from torch.nn import functional

from .errors import UnsupportedStructure
from .exportable import Exportable, transformer
from .expression import count_indices
from .header import Shapes
from .rotary import CosSin, angles, turn

HEAD = 128
THETA = 10000


def exportable(shapes: Shapes) -> Exportable:
    config = config_of(shapes)
    output = ("batch", config["out_channels"], "frames", "height", "width")
    return transformer(
        "wan", shapes, config, _build, output, {"batch": 2, "frames": 2, "height": 4, "width": 6, "tokens": 5, "image_tokens": 7}, _run
    )


def config_of(shapes: Shapes) -> dict[str, Any]:
    try:
        width, channels, *patch = shapes["patch_embedding.weight"]
        cells = patch[0] * patch[1] * patch[2]
        return {
            "patch_size": patch,
            "num_attention_heads": max(1, width // HEAD),
            "attention_head_dim": min(width, HEAD),
            "in_channels": channels,
            "out_channels": shapes["head.head.weight"][0] // cells,
            "text_dim": shapes["text_embedding.0.weight"][1],
            "freq_dim": shapes["time_embedding.0.weight"][1],
            "ffn_dim": shapes["blocks.0.ffn.0.weight"][0],
            "num_layers": count_indices(shapes, "blocks."),
            "cross_attn_norm": "blocks.0.norm3.weight" in shapes,
            "image_dim": shapes["img_emb.proj.0.weight"][0] if "img_emb.proj.0.weight" in shapes else None,
            "added_kv_proj_dim": width if "blocks.0.cross_attn.k_img.weight" in shapes else None,
        }
    except (KeyError, IndexError, ValueError) as error:
        raise UnsupportedStructure(f"expected a Wan header, without {error}: this structure is not supported") from error


class _Attention:
    """diffusers' Wan attention without its fixed 512 text tokens and its strided writes. `image_tokens`: set for each run."""

    def __init__(self) -> None:
        self.image_tokens: Any = 0

    def __call__(self, attn: Any, hidden: torch.Tensor, context: Any, mask: None, rotary: CosSin | None) -> torch.Tensor:
        context = hidden if context is None else context
        image: Any = None
        if attn.add_k_proj is not None:
            image, context = context[:, : self.image_tokens], context[:, self.image_tokens :]
        query, key = attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(context))
        query, key, value = (self._split(attn, values) for values in (query, key, attn.to_v(context)))
        if rotary is not None:
            query, key = turn(query, rotary), turn(key, rotary)
        mixed = self._join(functional.scaled_dot_product_attention(query, key, value))
        if image is not None and attn.add_k_proj is not None:
            key, value = self._split(attn, attn.norm_added_k(attn.add_k_proj(image))), self._split(attn, attn.add_v_proj(image))
            mixed = mixed + self._join(functional.scaled_dot_product_attention(query, key, value))
        return attn.to_out[0](mixed)

    @staticmethod
    def _split(attn: nn.Module, values: torch.Tensor) -> torch.Tensor:
        return values.reshape(values.shape[0], -1, attn.heads, attn.inner_dim // attn.heads).transpose(1, 2)

    @staticmethod
    def _join(values: torch.Tensor) -> torch.Tensor:
        return values.transpose(1, 2).flatten(2)


def _rotation(sample: torch.Tensor, patch: list[int], head: int) -> CosSin:
    """Cos and sin [frames * rows * columns, head / 2] of every patch."""
    side = 2 * (head // 6)
    sizes = [sample.shape[2 + i] // patch[i] for i in range(3)]
    parts = []
    for axis, width in enumerate((head - 2 * side, side, side)):
        one = angles(torch.arange(sizes[axis]), width, THETA)
        parts.append(one.reshape(*(-1 if i == axis else 1 for i in range(3)), width // 2).expand(*sizes, width // 2))
    turns = torch.cat(parts, dim=-1).reshape(-1, head // 2)
    return turns.cos(), turns.sin()


def _build(config: dict[str, Any]) -> WanTransformer3DModel:
    with torch.device("meta"):
        module = WanTransformer3DModel(**config).eval()
    module.rope.forward = MethodType(
        lambda self, sample: _rotation(sample, config["patch_size"], config["attention_head_dim"]), module.rope
    )
    return with_attention(module)


def with_attention(module: nn.Module) -> nn.Module:
    """Attention for any number of words."""
    module.set_attn_processor(_Attention())
    return module


def _run(
    module: WanTransformer3DModel, sample: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor, image: torch.Tensor | None = None
) -> torch.Tensor:
    for block in module.blocks:
        block.attn2.processor.image_tokens = 0 if image is None else image.shape[1]
    return module(sample, timestep, context, image, return_dict=False)[0]
