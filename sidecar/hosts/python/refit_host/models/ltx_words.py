"""The words of an LTX-2 run: a small network for each stream, whose weights lie in the checkpoint, fills them up with learned registers. ComfyUI calls it once a run."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration import count, need
from .ltx_places import angles_of, rotation_of
from .spec import Shapes

# Without gates, which have a row for every head, heads are so wide.
HEAD = 128
# Words are filled up to so many, then to whole sets of registers; and what is far away.
WORDS = 1024
FAR = 4096
THETA = 10000.0


class Connector(nn.Module):
    """Names as in the checkpoint, behind `prefix`. Made on the meta device."""

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        super().__init__()
        from diffusers.models.attention import FeedForward
        from diffusers.models.transformers.transformer_ltx2 import LTX2Attention

        registers, width = need(shapes, f"{prefix}learnable_registers")
        gates = shapes.get(f"{prefix}transformer_1d_blocks.0.attn1.to_gate_logits.weight")
        self.heads = width // HEAD if gates is None else gates[0]
        self.learnable_registers = nn.Parameter(torch.empty(registers, width))
        self.transformer_1d_blocks = nn.ModuleList()
        for number in range(count(shapes, f"{prefix}transformer_1d_blocks")):
            block = nn.Module()
            block.attn1 = LTX2Attention(width, self.heads, self.heads, width // self.heads, apply_gated_attention=gates is not None)
            # Files call them as ComfyUI does.
            block.attn1.q_norm, block.attn1.k_norm = block.attn1.norm_q, block.attn1.norm_k
            del block.attn1.norm_q, block.attn1.norm_k
            block.ff = FeedForward(
                width, activation_fn="gelu-approximate", bias=f"{prefix}transformer_1d_blocks.{number}.ff.net.2.bias" in shapes
            )
            self.transformer_1d_blocks.append(block)

    def forward(self, words: Tensor, halves: Tensor) -> Tensor:
        """[b, n, width] -> [b, t, width]; words come first, registers behind them. `halves` [b, 1]: how channels are turned."""
        sets = -(-max(WORDS, words.shape[1]) // len(self.learnable_registers))
        registers = self.learnable_registers.to(words.dtype).repeat(sets, 1)[words.shape[1] :]
        values = torch.cat([words, registers.expand(len(words), -1, -1)], dim=1)
        width = values.shape[-1]
        places = torch.arange(values.shape[1], device=words.device, dtype=torch.float32)[None, :, None] / FAR
        frequencies = THETA ** torch.linspace(0, 1, width // 2, dtype=torch.float64, device=words.device) * (torch.pi / 2)
        turns = rotation_of(angles_of(places, frequencies.float(), width), halves, width, self.heads)
        for block in self.transformer_1d_blocks:
            values = values + block.attn1(_even(values), query_rotary_emb=turns)
            values = values + block.ff(_even(values))
        return _even(values)


def words_of(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """words [b, n, d] -> the words of video and of audio side by side. `word_halves` [b]: 0 where a file says that channels are turned in pairs."""
    words = inputs["words"]
    halves = inputs["word_halves"][:, None] if "word_halves" in inputs else words.new_ones(len(words), 1)
    video = audio = words
    if words.shape[-1] == module.config.cross_attention_dim + module.config.audio_cross_attention_dim:
        video, audio = words.split([module.config.cross_attention_dim, module.config.audio_cross_attention_dim], dim=-1)
    if not module.config.use_prompt_embeddings and hasattr(module, "caption_projection"):
        video, audio = _projected(module.caption_projection, video), _projected(module.audio_caption_projection, audio)
    return torch.cat([module.video_embeddings_connector(video, halves), module.audio_embeddings_connector(audio, halves)], dim=-1)


def _projected(layer: nn.Module, words: Tensor) -> Tensor:
    inner = layer.linear_1
    return inner(_even(words) * (inner.out_features / inner.in_features) ** 0.5)


def _even(values: Tensor) -> Tensor:
    return functional.rms_norm(values, values.shape[-1:], eps=1e-6)
