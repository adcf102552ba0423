"""Qwen-Image's blocks over the fused operations: two streams, words before picture, with projections of their own that the checkpoint keeps apart."""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import Tensor, nn

from ..models.attention import mix
from .passes import Even, Modulation, Operations, Projections
from .rows import product, takes_codes
from .two_streams import Rotation, behind_attention


class Block(QwenImageTransformerBlock):
    operations: Operations

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, encoder_hidden_states_mask: Tensor | None, temb: Tensor,
        image_rotary_emb: Rotation | None = None, joint_attention_kwargs: dict[str, Any] | None = None, modulate_index: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if modulate_index is not None or image_rotary_emb is None:
            # Pictures with times of their own: a modulation for every token.
            return super().forward(
                hidden_states,
                encoder_hidden_states,
                encoder_hidden_states_mask,
                temb,
                image_rotary_emb,
                joint_attention_kwargs,
                modulate_index,
            )
        do, batch, words = self.operations, temb.shape[0], encoder_hidden_states.shape[1]
        attn: Any = self.attn
        shift, scale, gate, late_shift, late_scale, late_gate = self.img_mod(temb).chunk(6, 1)
        word_shift, word_scale, word_gate, word_late_shift, word_late_scale, word_late_gate = self.txt_mod(temb).chunk(6, 1)
        parts = [
            _projected(do, encoder_hidden_states, Modulation(word_scale, word_shift), Even(self.txt_norm1.eps),
                       (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), attn.norm_added_q.weight, attn.norm_added_k.weight),
            _projected(do, hidden_states, Modulation(scale, shift), Even(self.img_norm1.eps), (attn.to_q, attn.to_k, attn.to_v), attn.norm_q.weight, attn.norm_k.weight),
        ]  # fmt: skip
        heads = parts[0].query.shape[1] // attn.norm_q.weight.shape[0]
        mixed = mix(*do.rotate(parts, batch, heads, image_rotary_emb, attn.norm_q.eps), encoder_hidden_states_mask)
        new_words, new_picture = torch.empty_like(encoder_hidden_states), torch.empty_like(hidden_states)
        behind_attention(
            do, encoder_hidden_states, mixed[:, :words], new_words, attn.to_add_out, self.txt_mlp, word_gate,
            Modulation(word_late_scale, word_late_shift), word_late_gate,
        )  # fmt: skip
        behind_attention(
            do,
            hidden_states,
            mixed[:, words:],
            new_picture,
            attn.to_out[0],
            self.img_mlp,
            gate,
            Modulation(late_scale, late_shift),
            late_gate,
        )
        return new_words, new_picture


def _projected(
    do: Operations, x: Tensor, modulation: Modulation, even: Even, layers: tuple[nn.Module, ...], query_norm: Tensor, key_norm: Tensor
) -> Projections:
    normed = do.norm(x, modulation, even, codes=takes_codes(*layers))
    query, key, value = (product(layer, normed) for layer in layers)
    return Projections(query, key, value, query_norm, key_norm)


BLOCKS = {QwenImageTransformerBlock: Block}
