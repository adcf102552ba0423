"""One block of LTX-2: both streams look at themselves and at their words, then video at audio and audio at video.

Audio sees video as it is after video has looked, as in ComfyUI; diffusers has it see video as it was before.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .ltx_guides import Guides
from .ltx_places import Rotations


class Changes(NamedTuple):
    """What the times make of each stream, between the streams and of the words: [b, 1 or cells, n * width]."""

    video: Tensor
    audio: Tensor
    video_across: Tensor
    audio_across: Tensor
    video_gate: Tensor
    audio_gate: Tensor
    video_told: Tensor | None
    audio_told: Tensor | None


class Shared(NamedTuple):
    """What all blocks get."""

    changes: Changes
    words: Tensor
    audio_words: Tensor
    turns: Rotations
    mask: Tensor | None
    guides: Guides | None
    #: Whether there is audio; without it only video counts.
    heard: bool


def step(block: nn.Module, video: Tensor, audio: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
    own, told = _parts(block.scale_shift_table, shared.changes.video), getattr(block, "prompt_scale_shift_table", None)
    video = (
        video + block.attn1(_changed(block.norm1(video), own[1], own[0]), None, shared.guides, query_rotary_emb=shared.turns.video) * own[2]
    )
    video = video + _told(block.norm2(video), block.attn2, own, told, shared.changes.video_told, shared.words, shared.mask)
    if shared.heard:
        heard = _parts(block.audio_scale_shift_table, shared.changes.audio)
        heard_told = getattr(block, "audio_prompt_scale_shift_table", None)
        looked = block.audio_attn1(_changed(block.audio_norm1(audio), heard[1], heard[0]), query_rotary_emb=shared.turns.audio)
        audio = audio + looked * heard[2]
        audio = audio + _told(
            block.audio_norm2(audio), block.audio_attn2, heard, heard_told, shared.changes.audio_told, shared.audio_words, shared.mask
        )
        video, audio = _across(block, video, audio, shared)
        audio = audio + block.audio_ff(_changed(block.audio_norm3(audio), heard[4], heard[3])) * heard[5]
    return video + block.ff(_changed(block.norm3(video), own[4], own[3])) * own[5], audio


def _across(block: nn.Module, video: Tensor, audio: Tensor, shared: Shared) -> tuple[Tensor, Tensor]:
    table, audio_table = block.video_a2v_cross_attn_scale_shift_table, block.audio_a2v_cross_attn_scale_shift_table
    seen, sounds = _parts(table[:4], shared.changes.video_across), _parts(audio_table[:4], shared.changes.audio_across)
    (gate,), (audio_gate,) = _parts(table[4:], shared.changes.video_gate), _parts(audio_table[4:], shared.changes.audio_gate)
    before = block.video_to_audio_norm(audio)
    looked = block.audio_to_video_attn(
        _changed(block.audio_to_video_norm(video), seen[0], seen[1]), _changed(before, sounds[0], sounds[1]),
        query_rotary_emb=shared.turns.video_across, key_rotary_emb=shared.turns.audio_across,
    )  # fmt: skip
    video = video + looked * gate
    listened = block.video_to_audio_attn(
        _changed(before, sounds[2], sounds[3]), _changed(block.audio_to_video_norm(video), seen[2], seen[3]),
        query_rotary_emb=shared.turns.audio_across, key_rotary_emb=shared.turns.video_across,
    )  # fmt: skip
    return video, audio + listened * audio_gate


def _told(
    even: Tensor,
    attention: nn.Module,
    own: tuple[Tensor, ...],
    table: Tensor | None,
    time: Tensor | None,
    words: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """What words add. In later releases they and the look at them change with time too."""
    if table is None:
        return attention(even, words, mask)
    shift, scale = table[None, None].unbind(2) if time is None else _parts(table, time)
    return attention(_changed(even, own[7], own[6]), _changed(words, scale, shift), mask) * own[8]


def _parts(table: Tensor, change: Tensor) -> tuple[Tensor, ...]:
    """A block's table [n, width] with the change of the time: n times [b, 1 or cells, width]."""
    return (table[None, None] + change.unflatten(-1, table.shape)).unbind(2)


def _changed(values: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return values * (1 + scale) + shift
