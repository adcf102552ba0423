"""Flux with one projection for queries, keys and values: the checkpoint stores them as one matrix, so the arena's view of it is bound as it is.

Fewer and larger products, and (quantised) one conversion of their shared input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import FUSED_JOINT, fuse_parts, turn


def fuse(module: nn.Module) -> nn.Module:
    """Gives every attention of a module on the meta device the fused layers."""
    for attention in module.modules():
        if type(attention).__name__ != "FluxAttention":
            continue
        fuse_parts(attention, FUSED_JOINT)
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
            turn(query, rotation).transpose(1, 2), turn(key, rotation).transpose(1, 2), value.transpose(1, 2)
        )
        mixed = mixed.transpose(1, 2).flatten(2)
        if context is None:
            return mixed
        words = context.shape[1]
        return attn.to_out[0](mixed[:, words:]), attn.to_add_out(mixed[:, :words])
