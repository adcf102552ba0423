"""MiniMax-H3 on a device: words, audio and video in one row of tokens. In: canonical shapes. Out: diffusers' MiniMaxH3Transformer3DModel, called as ComfyUI calls its own.

`timestep` is the video's and runs to 1000; audio has a schedule of its own. `audio_scale`: how much larger than itself the sampler carries the audio. The answer holds the
video's velocity, then the audio's, flat. Some releases hold what the time's layers give as a table (`adaln_t_table`).
"""

from __future__ import annotations

import math
from types import MethodType
from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import FUSED_SELF, fuse_parts, mix
from .configuration import count, need
from .patches import from_tokens, padded, to_tokens
from .rotation import Frequencies
from .spec import Shapes

PATCH = 2
THETA = 10000.0
# Shifts of the video's and of the audio's schedule, where a run brings none.
SHIFTS = (12.0, 3.0)
# A picture frame in units of audio frames; and how far the five latent frames of a round stand from its beginning, in picture frames: 0, 1, 5, 9, 13 of 17.
FRAME, ROUND, FRAMES_OF_ROUND = 5 / 3, 5, 17
# Rows and columns run over so much, whatever the picture's size.
SIDE = 32.0
# Sets of changes of a block, by what a token is.
VIDEO, WORDS, AUDIO = 0, 1, 2
KINDS, PARTS = 3, 6
TABLE = "adaln_t_table"
# Parameters that the module has under the checkpoint's own names. Frequencies are computed: bf16 would spoil them.
OWN_NAMES = (TABLE, "rope.")
# The refiner's blocks serve a run's words, no step.
REPEATED = ("MiniMaxH3TransformerBlock",)


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, patch = need(shapes, "video_patch_proj.weight")
    (head,) = need(shapes, "blocks.0.attn.q_norm.weight")
    times = {"time_embed_dim": shapes[TABLE][1]} if TABLE in shapes else {
        "freq_dim": need(shapes, "time_embedder.proj_in.weight")[1],
        "time_embed_hidden_dim": need(shapes, "time_embedder.proj_in.weight")[0],
        "time_embed_dim": need(shapes, "time_embedder.proj_out.weight")[0],
    }  # fmt: skip
    return {
        "num_attention_heads": need(shapes, "blocks.0.attn.out_proj.weight")[1] // head,
        "attention_head_dim": head,
        "hidden_size": width,
        "num_layers": count(shapes, "blocks"),
        "num_refiner_layers": count(shapes, "token_refiner.blocks"),
        "ffn_dim": need(shapes, "blocks.0.mlp.fc2.weight")[1],
        "in_channels": patch // PATCH**2,
        "audio_in_channels": need(shapes, "audio_patch_proj.weight")[1],
        "text_dim": need(shapes, "condition_proj.weight")[1],
        "rope_freq_dim": need(shapes, "rope.inv_freq")[0],
        **times,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import MiniMaxH3Transformer3DModel

    with torch.device("meta"):
        module = MiniMaxH3Transformer3DModel(**config)
        module.rope = nn.Module()
        module.rope.inv_freq = nn.Parameter(torch.empty(config["rope_freq_dim"]))
        if TABLE in shapes:
            module.time_embedder = None
            module.adaln_t_table = nn.Parameter(torch.empty(shapes[TABLE]))
    return module


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies((2 * config["rope_freq_dim"],), THETA)
    for block in (*module.transformer_blocks, *module.token_refiner.refiner_blocks):
        fuse_parts(block.attn, FUSED_SELF)
        block.attn.set_processor(Attention())
    for block in module.transformer_blocks:
        block.forward = MethodType(_block, block)
    return module


class Attention:
    """Every token sees every other. Of each head the first channels are turned, half against half."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, rotary_emb: tuple[Tensor, Tensor] | None = None, attention_mask: None = None
    ) -> Tensor:
        query, key, value = (part.unflatten(-1, (attn.heads, -1)) for part in attn.to_qkv(hidden_states).chunk(3, dim=-1))
        return attn.to_out[0](mix(_turned(attn.norm_q(query), rotary_emb), _turned(attn.norm_k(key), rotary_emb), value))


def _turned(values: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
    if rotation is None:
        return values
    cos, sin = (part[:, None] for part in rotation)
    turning, still = values[..., : 2 * cos.shape[-1]], values[..., 2 * cos.shape[-1] :]
    first, second = turning.float().chunk(2, dim=-1)
    return torch.cat([(first * cos - second * sin).to(values.dtype), (second * cos + first * sin).to(values.dtype), still], dim=-1)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], audio_sample [b, c, 2, n], timestep [b] (0..1000), encoder_hidden_states [b, t, width], as the words of the run give them.

    Optionally audio_scale [b], shift_video [b], shift_audio [b], word_kinds [1 or b, t]: what each word is, alike in all rows. Or the words of a run: words [b, n, d].
    """
    if "words" in inputs:
        return module.token_refiner(module.context_embedder(inputs["words"]))
    sample, sound, words = inputs["sample"], inputs["audio_sample"], inputs["encoder_hidden_states"]
    height, width = sample.shape[-2:]
    picture = padded(sample, PATCH)
    frames, rows, columns = picture.shape[2], picture.shape[3] // PATCH, picture.shape[4] // PATCH
    sigma = (inputs["timestep"].float() / 1000).clamp(min=1e-6)
    shifts = [inputs.get(name, torch.full_like(sigma, usual)) for name, usual in zip(("shift_video", "shift_audio"), SHIFTS, strict=True)]
    audio_sigma = _shifted(sigma, *shifts)
    scale = inputs.get("audio_scale", torch.ones_like(sigma))
    carry = torch.where(scale == 1, 1.0, audio_sigma / sigma)
    own_sound = sound * carry[:, None, None, None].to(sound.dtype)
    both = _times(module, torch.stack([1 - sigma, 1 - audio_sigma], dim=1), words.dtype)
    turns = _turns(module.refit_frequencies.on(sample.device)[0], words.shape[1], sound.shape[-1], (frames, rows, columns))
    streams = [words, module.audio_proj_in(own_sound.permute(0, 2, 3, 1).flatten(1, 2)), module.proj_in(to_tokens(picture, PATCH))]
    sizes = [stream.shape[1] for stream in streams]
    tokens = torch.cat(streams, dim=1)
    kinds = inputs["word_kinds"][0].long() if "word_kinds" in inputs else None
    for block in module.transformer_blocks:
        tokens = block(tokens, sizes, both, kinds, turns)
    shift, factor = module.norm_out.linear(both).chunk(2, dim=-1)
    _, heard, seen = module.norm_out.norm(tokens).split(sizes, dim=1)
    video = module.proj_out(seen * (1 + factor[:, :1]) + shift[:, :1])
    audio = module.audio_proj_out(heard * (1 + factor[:, 1:]) + shift[:, 1:])
    video = -from_tokens(video, rows, columns, PATCH, frames=frames)[..., :height, :width]
    audio = -audio.unflatten(1, (2, -1)).permute(0, 3, 1, 2)
    scale, audio_sigma = (value[:, None, None, None].to(audio.dtype) for value in (scale, audio_sigma))
    audio = (1 - scale) * own_sound + (1 + (scale - 1) * audio_sigma) * audio
    return torch.cat([video.flatten(1), audio.flatten(1)], dim=1)


def _shifted(sigma: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
    """Where a schedule of one shift stands when that of another is at `sigma`."""
    base = sigma / (known + sigma * (1 - known))
    return wanted * base / (1 + (wanted - 1) * base)


def _times(module: nn.Module, times: Tensor, dtype: torch.dtype) -> Tensor:
    """[b, 2] of 0..1 -> what the layers of changes take [b, 2, d]."""
    if module.time_embedder is not None:
        return functional.silu(module.time_embedder(module.time_proj(times.flatten()).to(dtype)).unflatten(0, times.shape))
    table = module.adaln_t_table
    place = times.clamp(0, 1) * (len(table) - 1)
    first = place.floor().long().clamp(max=len(table) - 2)
    return torch.lerp(table[first].float(), table[first + 1].float(), (place - first)[..., None]).to(dtype)


def _block(block: nn.Module, tokens: Tensor, sizes: list[int], times: Tensor, kinds: Tensor | None, turns: tuple[Tensor, Tensor]) -> Tensor:
    changes = block.adaln_proj.linear(times).unflatten(-1, (KINDS, PARTS, -1))
    words = changes[:, 0, WORDS, :, None] if kinds is None else changes[:, 0].index_select(1, kinds).transpose(1, 2)
    parts = [words.unbind(1), changes[:, 1, AUDIO, :, None].unbind(1), changes[:, 0, VIDEO, :, None].unbind(1)]

    def changed(values: Tensor, first: int) -> Tensor:
        pieces = zip(values.split(sizes, dim=1), parts, strict=True)
        return torch.cat([piece * (1 + part[first + 1]) + part[first] for piece, part in pieces], dim=1)

    def added(values: Tensor, new: Tensor, gate: int) -> Tensor:
        pieces = zip(values.split(sizes, dim=1), new.split(sizes, dim=1), parts, strict=True)
        return torch.cat([old + part[gate] * more for old, more, part in pieces], dim=1)

    tokens = added(tokens, block.attn(changed(block.norm1(tokens), 0), turns), 2)
    return added(tokens, block.ff(changed(block.norm2(tokens), 3)), 5)


def _turns(frequencies: Tensor, words: int, sounds: int, sizes: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Cos and sin [tokens, 3 * frequencies] of (time, row, column): words at their numbers, then audio and video side by side in time."""
    frames, rows, columns = sizes
    device = frequencies.device

    def numbers(size: int) -> Tensor:
        return torch.arange(size, device=device, dtype=torch.float64)

    across = math.sqrt(rows * columns)
    down, right = ((numbers(size) * (size / across / size) + (1 - size / across) / 2) * SIDE for size in (rows, columns))
    still = torch.zeros(1, device=device, dtype=torch.float64)
    of_words = torch.stack(torch.broadcast_tensors(numbers(words), still, still), dim=-1)
    # The two channels of audio stand at the picture's edges.
    edges = torch.stack([right[0], right[-1]])[:, None]
    of_sounds = torch.stack(torch.broadcast_tensors(words + numbers(sounds)[None], still, edges), dim=-1).flatten(0, 1)
    at = numbers(frames) % ROUND
    times = words + FRAME * (FRAMES_OF_ROUND * (numbers(frames) // ROUND) + torch.where(at > 0, 4 * at - 3, 0.0))
    of_frames = torch.stack(torch.broadcast_tensors(times[:, None, None], down[:, None], right), dim=-1).flatten(0, 2)
    angles = torch.cat([of_words, of_sounds, of_frames]).float()[..., None] * frequencies
    return angles.flatten(1).cos(), angles.flatten(1).sin()
