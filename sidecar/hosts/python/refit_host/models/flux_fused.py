"""Flux with one projection for queries, keys and values: the checkpoint stores them as one matrix, so the arena's view of it is bound as it is.

Fewer and larger products, and (quantised) one conversion of their shared input.
"""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .spec import Source

# Fused layer -> its parts in the row order of the checkpoint.
FUSED = {"to_qkv": ("to_q", "to_k", "to_v"), "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj")}


def fused_sources(sources: Mapping[str, Source]) -> dict[str, Source]:
    """The sources of a fused module: rows of one parameter that follow each other become one source."""
    out = dict(sources)
    for name in sources:
        for fused, parts in FUSED.items():
            for kind in ("weight", "bias"):
                stem = name.removesuffix(f".attn.{parts[0]}.{kind}")
                if stem != name:
                    found = [out.pop(f"{stem}.attn.{part}.{kind}") for part in parts]
                    begin = min(source.rows[0] for source in found if source.rows)
                    out[f"{stem}.attn.{fused}.{kind}"] = Source(found[0].parameter, (begin, sum(source.rows[1] for source in found if source.rows)))
    return out


def fuse(module: nn.Module) -> nn.Module:
    """Gives every attention of a module on the meta device the fused layers."""
    for attention in module.modules():
        if type(attention).__name__ != "FluxAttention":
            continue
        for fused, parts in FUSED.items():
            layers = [getattr(attention, part) for part in parts if hasattr(attention, part)]
            if layers:
                rows, bias = sum(layer.out_features for layer in layers), layers[0].bias is not None
                setattr(attention, fused, nn.Linear(layers[0].in_features, rows, bias=bias, device="meta"))
                for part in parts:
                    delattr(attention, part)
    module.set_attn_processor(FusedAttention())
    return module


class FusedAttention:
    """Flux attention, text before picture, in the [batch, tokens, heads, width] order that the products give and the kernels take."""

    def __call__(self, attn: nn.Module, hidden: Tensor, context: Tensor | None, mask: None, rotation: tuple[Tensor, Tensor]) -> object:
        query, key, value = attn.to_qkv(hidden).unflatten(-1, (3, -1, attn.head_dim)).unbind(-3)
        query, key = attn.norm_q(query), attn.norm_k(key)
        if context is not None:
            first_query, first_key, first_value = attn.to_added_qkv(context).unflatten(-1, (3, -1, attn.head_dim)).unbind(-3)
            query = torch.cat([attn.norm_added_q(first_query), query], dim=1)
            key = torch.cat([attn.norm_added_k(first_key), key], dim=1)
            value = torch.cat([first_value, value], dim=1)
        mixed = functional.scaled_dot_product_attention(
            _turn(query, rotation).transpose(1, 2), _turn(key, rotation).transpose(1, 2), value.transpose(1, 2)
        )
        mixed = mixed.transpose(1, 2).flatten(2)
        if context is None:
            return mixed
        words = context.shape[1]
        return attn.to_out[0](mixed[:, words:]), attn.to_add_out(mixed[:, :words])


def _turn(values: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates each pair of neighbouring channels of [batch, tokens, heads, width] by cos and sin [tokens, width / 2], in f32."""
    cos, sin = (part[:, None] for part in rotation)
    first, second = values.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2).to(values.dtype)
