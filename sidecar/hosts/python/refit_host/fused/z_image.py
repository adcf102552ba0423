"""Z-Image's blocks over the fused operations: one stream, RMS norms before and behind each half, gated feed-forward layers."""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_z_image import ZImageTransformerBlock
from torch import Tensor

from ..models.attention import mix
from .passes import Even, Modulation, Operations, Projections, Update
from .rows import product, takes_codes
from .two_streams import Rotation


class Block(ZImageTransformerBlock):
    operations: Operations

    def forward(self, x: Tensor, attn_mask: None, freqs_cis: Rotation, adaln_input: Tensor | None = None) -> Tensor:
        do, feed, batch = self.operations, self.feed_forward, x.shape[0]
        attn: Any = self.attention
        gate = late_gate = early = late = None
        if self.modulation:
            scale, gate, late_scale, late_gate = self.adaLN_modulation(adaln_input).chunk(4, 1)
            gate, late_gate, early, late = gate.tanh(), late_gate.tanh(), Modulation(scale), Modulation(late_scale)
        qkv = product(attn.to_qkv, do.norm(x, early, _even(self.attention_norm1), codes=takes_codes(attn.to_qkv)))
        head, layer = attn.norm_q.weight.shape[0], attn.to_out[0]
        parts = [Projections.of_one(qkv, attn.norm_q.weight, attn.norm_k.weight)]
        mixed = mix(*do.rotate(parts, batch, parts[0].query.shape[1] // head, freqs_cis, attn.norm_q.eps))
        new = torch.empty_like(x)
        change = Update(product(layer, do.rows(mixed, codes=takes_codes(layer))), gate, new, _even(self.attention_norm2))
        normed = do.update_and_norm(x, change, late, _even(self.ffn_norm1), codes=takes_codes(feed.w1, feed.w3))
        fed = do.gated(product(feed.w1, normed), product(feed.w3, normed), codes=takes_codes(feed.w2))
        do.update(new, Update(product(feed.w2, fed), late_gate, new, _even(self.ffn_norm2)))
        return new


def _even(norm: Any) -> Even:
    return Even(norm.eps, norm.weight, centred=False)


BLOCKS = {ZImageTransformerBlock: Block}
