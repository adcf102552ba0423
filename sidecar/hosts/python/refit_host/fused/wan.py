"""Wan's blocks over the fused operations: a video looks at itself, then at words (and at what a picture shows), with norms over all heads."""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

from ..models.attention import mix
from .passes import Even, Modulation, Operations, Update
from .rows import product, takes_codes
from .two_streams import Rotation


class Block(WanTransformerBlock):
    operations: Operations

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, rotary_emb: Rotation) -> Tensor:
        if temb.ndim == 4 and temb.shape[1] != 1:
            # Frames with times of their own: a modulation for every token.
            return super().forward(hidden_states, encoder_hidden_states, temb, rotary_emb)
        do, looks, reads, feed = self.operations, self.attn1, self.attn2, self.ffn
        time = temb[:, 0] if temb.ndim == 4 else temb
        shift, scale, gate, late_shift, late_scale, late_gate = (self.scale_shift_table + time.float()).unbind(1)
        new = torch.empty_like(hidden_states)
        normed = do.norm(
            hidden_states, Modulation(scale, shift), Even(self.norm1.eps), codes=takes_codes(looks.to_q, looks.to_k, looks.to_v)
        )
        batch = len(hidden_states)
        query = do.turn(product(looks.to_q, normed), looks.norm_q.weight, batch, looks.heads, rotary_emb, looks.norm_q.eps)
        key = do.turn(product(looks.to_k, normed), looks.norm_k.weight, batch, looks.heads, rotary_emb, looks.norm_k.eps)
        seen = mix(query, key, _heads(product(looks.to_v, normed), batch, looks.heads))
        change = Update(product(looks.to_out[0], do.rows(seen, codes=takes_codes(looks.to_out[0]))), gate, new)
        norm: Any = self.norm2
        if isinstance(norm, nn.Identity):
            do.update(hidden_states, change)
            asking = do.rows(new, codes=takes_codes(reads.to_q))
        else:
            asking = do.update_and_norm(hidden_states, change, None, Even(norm.eps, norm.weight, norm.bias), codes=takes_codes(reads.to_q))
        read = self._read(
            do.turn(product(reads.to_q, asking), reads.norm_q.weight, batch, reads.heads, None, reads.norm_q.eps), encoder_hidden_states
        )
        change = Update(product(reads.to_out[0], do.rows(read, codes=takes_codes(reads.to_out[0]))), None, new)
        wide, narrow = feed.net[0].proj, feed.net[2]
        normed = do.update_and_norm(new, change, Modulation(late_scale, late_shift), Even(self.norm3.eps), codes=takes_codes(wide))
        do.update(new, Update(product(narrow, do.gelu(product(wide, normed), None, codes=takes_codes(narrow))), late_gate, new))
        return new

    def _read(self, query: Tensor, words: Tensor) -> Tensor:
        """What words say to `query` [b, tokens, heads, width], and what a picture before them shows where the structure looks at one."""
        do, reads, batch = self.operations, self.attn2, len(words)
        shown = reads.processor.image_tokens if reads.add_k_proj is not None else 0
        given = do.rows(words[:, shown:], codes=takes_codes(reads.to_k, reads.to_v))
        key = do.turn(product(reads.to_k, given), reads.norm_k.weight, batch, reads.heads, None, reads.norm_k.eps)
        read = mix(query, key, _heads(product(reads.to_v, given), batch, reads.heads))
        if reads.add_k_proj is None:
            return read
        given = do.rows(words[:, :shown], codes=takes_codes(reads.add_k_proj, reads.add_v_proj))
        key = do.turn(product(reads.add_k_proj, given), reads.norm_added_k.weight, batch, reads.heads, None, reads.norm_added_k.eps)
        return read + mix(query, key, _heads(product(reads.add_v_proj, given), batch, reads.heads))


def _heads(values: Tensor, batch: int, heads: int) -> Tensor:
    return values.unflatten(0, (batch, -1)).unflatten(2, (heads, -1))


BLOCKS = {WanTransformerBlock: Block}
