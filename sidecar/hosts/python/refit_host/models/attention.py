"""Attention of the transformer families, with one projection for queries, keys and values where the checkpoint has one matrix for them."""

# pyright: reportIncompatibleMethodOverride=false
# diffusers calls each processor with the arguments of its own model.
from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CosSin = tuple[Tensor, Tensor]


def turn(values: Tensor, rotation: CosSin | None) -> Tensor:
    """Rotates each pair of neighbouring channels of [batch, tokens, heads, width] by cos and sin [tokens, width / 2], in f32."""
    assert rotation is not None, "these blocks always get a rotation"
    cos, sin = (part[:, None] for part in rotation)
    first, second = values.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2).to(values.dtype)


def mix(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot product of [batch, tokens, heads, width] -> [batch, tokens, heads * width]. Fewer heads of keys are shared by neighbours."""
    grouped = query.shape[2] != key.shape[2]
    mixed = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, enable_gqa=grouped
    )
    return mixed.transpose(1, 2).flatten(2)


# Fused layer -> its parts in the row order of the checkpoint.
FUSED_SELF = {"to_qkv": ("to_q", "to_k", "to_v")}
FUSED_JOINT = FUSED_SELF | {"to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj")}


def fuse_parts(attention: nn.Module, table: Mapping[str, tuple[str, ...]]) -> None:
    """Gives an attention of a module on the meta device one layer in place of several that stand side by side in the checkpoint, where it has them."""
    for fused, parts in table.items():
        layers = [getattr(attention, part) for part in parts if hasattr(attention, part)]
        if not layers:
            continue
        setattr(
            attention,
            fused,
            nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), bias=layers[0].bias is not None, device="meta"),
        )
        for part in parts:
            delattr(attention, part)


def _heads(attn: nn.Module, values: Tensor) -> list[Tensor]:
    """Queries, keys and values of [batch, tokens, 3 * width], each [batch, tokens, heads, width of a head]."""
    return [part.unflatten(-1, (-1, attn.norm_q.weight.shape[0])) for part in values.chunk(3, dim=-1)]


class FusedSelfAttention:
    """Normalised and rotated queries and keys; every token sees every other."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
        freqs_cis: CosSin | None = None,
    ) -> Tensor:
        query, key, value = _heads(attn, attn.to_qkv(hidden_states))
        return attn.to_out[0](mix(turn(attn.norm_q(query), freqs_cis), turn(attn.norm_k(key), freqs_cis), value))


class JointAttention:
    """Words and picture in one sequence, words first, each with projections of its own. `rotation` covers both; `mask` is added to the scores."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor, encoder_hidden_states_mask: Tensor | None = None,
        attention_mask: None = None, image_rotary_emb: CosSin | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        tokens, words = self.project(attn, hidden_states, encoder_hidden_states)
        query = torch.cat([attn.norm_added_q(words[0]), attn.norm_q(tokens[0])], dim=1)
        key = torch.cat([attn.norm_added_k(words[1]), attn.norm_k(tokens[1])], dim=1)
        mixed = mix(
            turn(query, image_rotary_emb), turn(key, image_rotary_emb), torch.cat([words[2], tokens[2]], dim=1), encoder_hidden_states_mask
        )
        count = encoder_hidden_states.shape[1]
        return attn.to_out[0](mixed[:, count:]), attn.to_add_out(mixed[:, :count])

    def project(self, attn: nn.Module, tokens: Tensor, words: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        width = attn.norm_q.weight.shape[0]
        picture = [layer(tokens).unflatten(-1, (-1, width)) for layer in (attn.to_q, attn.to_k, attn.to_v)]
        return picture, [layer(words).unflatten(-1, (-1, width)) for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)]


class FusedJointAttention(JointAttention):
    """The same with `to_qkv` and `to_added_qkv`."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
        image_rotary_emb: CosSin | None = None,
    ) -> tuple[Tensor, Tensor]:
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, None, image_rotary_emb)

    def project(self, attn: nn.Module, tokens: Tensor, words: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return _heads(attn, attn.to_qkv(tokens)), _heads(attn, attn.to_added_qkv(words))


class ParallelAttention:
    """Attention and the gated layers of one block from one product and into one product, as the single blocks of flux2 have them."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, attention_mask: None = None, image_rotary_emb: CosSin | None = None
    ) -> Tensor:
        both = attn.to_qkv_mlp_proj(hidden_states)
        query, key, value = _heads(attn, both[..., : 3 * attn.inner_dim])
        mixed = mix(turn(attn.norm_q(query), image_rotary_emb), turn(attn.norm_k(key), image_rotary_emb), value)
        return attn.to_out(torch.cat([mixed, attn.mlp_act_fn(both[..., 3 * attn.inner_dim :])], dim=-1))


def one_projection(module: nn.Module) -> nn.Module:
    """Gives every attention of a module on the meta device the fused layers."""
    for attention in module.modules():
        if type(attention).__name__ != "FluxAttention":
            continue
        fuse_parts(attention, FUSED_JOINT)
    module.set_attn_processor(FusedFluxAttention())
    return module


class FusedFluxAttention:
    """Attention of both streams, text before picture, in the [batch, tokens, heads, width] order that the products give and the kernels take."""

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
