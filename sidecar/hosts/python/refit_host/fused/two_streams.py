"""Two-stream blocks and the single ones behind them, over the fused operations.

Values are diffusers' up to rounding; parameters and names are those of diffusers' FluxTransformer2DModel with one projection (models).

Text and picture lie in one tensor, text first, from the first block on: single blocks take them as they are.
"""

# pyright: reportIncompatibleMethodOverride=false
# diffusers types the rotation as one tensor; it gives the pair of cos and sin.
from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers import transformer_flux
from torch import Tensor, nn
from torch.nn import functional

from ..models.attention import mix
from .passes import Even, Modulation, Operations, Projections, Update
from .rows import product, takes_codes

EVEN = Even(1e-6)
Rotation = tuple[Tensor, Tensor]


def joined(words: Tensor, picture: Tensor) -> Tensor:
    """[batch, tokens of both, cols]; no copy where the two are neighbours in one tensor, as every block leaves them."""
    batch, count, cols = words.shape
    total = count + picture.shape[1]
    strides = (total * cols, cols, 1)
    neighbours = (
        words.untyped_storage().data_ptr() == picture.untyped_storage().data_ptr() and picture.storage_offset() == words.storage_offset() + count * cols
        and (batch == 1 or words.stride() == picture.stride() == strides) and words.stride()[1:] == picture.stride()[1:] == strides[1:]
    )  # fmt: skip
    return torch.as_strided(words, (batch, total, cols), strides, words.storage_offset()) if neighbours else torch.cat([words, picture], 1)


def _mix(operations: Operations, attention: nn.Module, parts: list[Projections], batch: int, rotation: Rotation) -> Tensor:
    """Attention over all tokens: [batch, tokens, cols]."""
    heads = parts[0].query.shape[1] // attention.head_dim
    return mix(*operations.rotate(parts, batch, heads, rotation, attention.norm_q.eps))


class DoubleBlock(transformer_flux.FluxTransformerBlock):
    operations: Operations

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, image_rotary_emb: Rotation,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        do, attn, batch, words = self.operations, self.attn, temb.shape[0], encoder_hidden_states.shape[1]
        time = functional.silu(temb)
        shift, scale, gate, late_shift, late_scale, late_gate = self.norm1.linear(time).chunk(6, 1)
        word_shift, word_scale, word_gate, word_late_shift, word_late_scale, word_late_gate = self.norm1_context.linear(time).chunk(6, 1)
        qkv = product(attn.to_qkv, do.norm(hidden_states, Modulation(scale, shift), EVEN, codes=takes_codes(attn.to_qkv)))
        word_qkv = product(
            attn.to_added_qkv,
            do.norm(encoder_hidden_states, Modulation(word_scale, word_shift), EVEN, codes=takes_codes(attn.to_added_qkv)),
        )
        parts = [
            Projections.of_one(word_qkv, attn.norm_added_q.weight, attn.norm_added_k.weight),
            Projections.of_one(qkv, attn.norm_q.weight, attn.norm_k.weight),
        ]
        mixed = _mix(do, attn, parts, batch, image_rotary_emb)
        out = torch.empty_like(mixed)
        new_words, new_picture = out[:, :words], out[:, words:]
        behind_attention(
            do, encoder_hidden_states, mixed[:, :words], new_words, attn.to_add_out, self.ff_context, word_gate,
            Modulation(word_late_scale, word_late_shift), word_late_gate,
        )  # fmt: skip
        behind_attention(
            do, hidden_states, mixed[:, words:], new_picture, attn.to_out[0], self.ff, gate, Modulation(late_scale, late_shift), late_gate
        )
        return new_words, new_picture


def behind_attention(
    do: Operations,
    old: Tensor,
    mixed: Tensor,
    new: Tensor,
    layer: nn.Module,
    feed: nn.Module,
    gate: Tensor,
    late: Modulation,
    late_gate: Tensor,
) -> None:
    """A stream's share of the attention and its feed-forward layers, written to `new`."""
    change = Update(product(layer, do.rows(mixed, codes=takes_codes(layer))), gate, new)
    wide, narrow = feed.net[0].proj, feed.net[2]
    normed = do.update_and_norm(old, change, late, EVEN, codes=takes_codes(wide))
    do.update(new, Update(product(narrow, do.gelu(product(wide, normed), None, codes=takes_codes(narrow))), late_gate, new))


class SingleBlock(transformer_flux.FluxSingleTransformerBlock):
    operations: Operations

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, image_rotary_emb: Rotation,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        do, attn, batch, words = self.operations, self.attn, temb.shape[0], encoder_hidden_states.shape[1]
        x = joined(encoder_hidden_states, hidden_states)
        shift, scale, gate = self.norm.linear(functional.silu(temb)).chunk(3, 1)
        both = takes_codes(attn.to_qkv, self.proj_mlp)
        normed = do.norm(x, Modulation(scale, shift), EVEN, codes=both)
        mixed = _mix(
            do, attn, [Projections.of_one(product(attn.to_qkv, normed), attn.norm_q.weight, attn.norm_k.weight)], batch, image_rotary_emb
        )
        joint = do.gelu(product(self.proj_mlp, normed), mixed.flatten(0, 1), codes=takes_codes(self.proj_out))
        out = torch.empty_like(x)
        do.update(x, Update(product(self.proj_out, joint), gate, out))
        return out[:, :words], out[:, words:]


BLOCKS = {transformer_flux.FluxTransformerBlock: DoubleBlock, transformer_flux.FluxSingleTransformerBlock: SingleBlock}
