"""Where cells of LTX-Video and LTX-2 stand: video in seconds and pixels, audio in seconds, and the rotations that come of it.

Settings of an LTX-2 release come as inputs [b], 0 or 1, alike in all rows: `causal` (the first frame is one picture and not eight), `middle` (a cell stands
at its middle and not at its start), `halves` (a head's channels are turned half against half and not in neighbouring pairs), `precise` (frequencies computed in f64).
"""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple, Sequence

import torch
from torch import Tensor

from .ltx_guides import kept

THETA = 10000.0
# Frames and pixels of one cell, and what is far away: seconds, pixels, pixels.
CELL = (8, 32, 32)
FAR = (20, 2048, 2048)
# Spectra of one cell of audio, and seconds of one spectrum.
SPECTRA = 4
SECONDS = 160 / 16000


class Rotation(NamedTuple):
    """Cosines and signed sines [b, cells, width], and the channel [width] that each is turned with."""

    cos: Tensor
    sin: Tensor
    partner: Tensor


class Rotations(NamedTuple):
    """Of each stream, and of each where one looks at the other."""

    video: Rotation
    audio: Rotation
    video_across: Rotation
    audio_across: Rotation


def turned(values: Tensor, rotation: Rotation) -> Tensor:
    """Rotates [b, cells, width] in f32."""
    wide = values.float()
    return (wide * rotation.cos + wide.index_select(-1, rotation.partner) * rotation.sin).to(values.dtype)


def setting(inputs: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """A setting [b, 1]; 0 where the file says nothing."""
    return inputs[name][:, None] if name in inputs else torch.zeros_like(like)


def rotations(
    tables: dict[object, Tensor], inputs: Mapping[str, Tensor], sizes: tuple[int, int, int], sounds: int, width: int, audio_width: int, heads: int,
) -> Rotations:  # fmt: skip
    """Of video, of audio, and of both where one looks at the other (by time alone, at the middle). `tables` keeps frequencies by device."""
    rate = inputs["frame_rate"][:, None]
    middle, halves, precise = (setting(inputs, name, rate) for name in ("middle", "halves", "precise"))
    video, audio = cells(inputs, sizes), _sounds(rate, sounds)
    ones = torch.ones_like(rate)

    def made(edges: list[tuple[Tensor, Tensor]], at: Tensor, wide: int) -> Rotation:
        places = torch.stack([torch.lerp(first, (first + last) / 2, at) / FAR[axis] for axis, (first, last) in enumerate(edges)], dim=-1)
        short, exact = frequencies(tables, wide // (2 * len(edges)), precise.device)
        angles = angles_of(places, torch.where(precise[0, 0] > 0.5, exact, short), wide)
        return rotation_of(angles, halves, wide, heads)

    return Rotations(
        made(video, middle, width), made(audio, middle, audio_width), made(video[:1], ones, audio_width), made(audio, ones, audio_width)
    )


def angles_of(places: Tensor, frequencies: Tensor, width: int) -> Tensor:
    """Angles [b, cells, width / 2] of places [b, cells, axes] from 0 to 1; channels that are left over stand still, in front."""
    angles = ((places[..., None] * 2 - 1) * frequencies).transpose(-1, -2).flatten(2)
    return torch.cat([angles.new_zeros(*angles.shape[:2], width // 2 - angles.shape[-1]), angles], dim=-1)


def rotation_of(angles: Tensor, halves: Tensor, width: int, heads: int) -> Rotation:
    """`halves` [b, 1]: 1 where a head's halves turn against each other, 0 for neighbouring pairs."""
    side, place = width // heads // 2, torch.arange(width, device=angles.device)
    within, head = place % (2 * side), place // (2 * side)
    split = halves[0, 0] > 0.5
    # The angle of each channel, the channel it turns with, and whether it is the first of the two.
    angle = head * side + torch.where(split, within % side, within // 2)
    partner = torch.where(split, torch.where(within < side, place + side, place - side), place + 1 - 2 * (place % 2))
    first = torch.where(split, within < side, within % 2 == 0)
    every = angles.index_select(-1, angle)
    sine = every.sin()
    return Rotation(every.cos(), torch.where(first, -sine, sine), partner)


def frequencies(tables: dict[object, Tensor], count: int, device: torch.device) -> Tensor:
    """[2, count]: computed in f32 and in f64, kept in `tables`."""
    if (device, count) not in tables:
        exact = THETA ** torch.linspace(0, 1, count, dtype=torch.float64) * (math.pi / 2)
        short = THETA ** torch.linspace(0, 1, count, dtype=torch.float32) * (math.pi / 2)
        tables[device, count] = torch.stack([short, exact.float()]).to(device)
    return tables[device, count]


def edges_of(axis: int, size: int, causal: Tensor) -> list[Tensor]:
    """First and last edge [1 or b, size] of every cell along an axis, in frames or pixels. `causal` [b, 1]: all frames come seven earlier, and none before the beginning."""
    first = torch.arange(size, device=causal.device, dtype=torch.float32)[None] * CELL[axis]
    edges = [first, first + CELL[axis]]
    return [torch.lerp(edge, (edge + 1 - CELL[0]).clamp(min=0), causal) for edge in edges] if axis == 0 else edges


def every_cell(values: Tensor, axis: int, sizes: Sequence[int], batch: int) -> Tensor:
    """Of what stands along one axis [1 or b, size], that of each cell [b, cells]."""
    shape = [len(values), *(size if at == axis else 1 for at, size in enumerate(sizes))]
    return values.reshape(shape).expand(batch, *sizes).flatten(1)


def cells(inputs: Mapping[str, Tensor], sizes: tuple[int, int, int]) -> list[tuple[Tensor, Tensor]]:
    """First and last edge [b, cells] of every cell that the model sees of a video, on each axis; guides, behind the video's own cells, stand where `guide_places` says."""
    rate, places = inputs["frame_rate"][:, None], inputs.get("guide_places")
    causal = setting(inputs, "causal", rate)
    out = []
    for axis, size in enumerate(sizes):
        pair = []
        for side, edge in enumerate(edges_of(axis, size, causal)):
            each = kept(inputs, every_cell(edge, axis, sizes, len(rate)))
            if places is not None:
                own = places[:, axis, :, side].expand(len(rate), -1)
                each = torch.cat([each[:, : each.shape[1] - own.shape[1]], own], dim=1)
            pair.append(each / rate if axis == 0 else each)
        out.append(tuple(pair))
    return out


def _sounds(rate: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
    """The same of audio, which always starts causally."""
    edges = torch.arange(count + 1, device=rate.device, dtype=torch.float32) * SPECTRA
    edges = ((edges + 1 - SPECTRA).clamp(min=0) * SECONDS)[None].expand(len(rate), -1)
    return [(edges[:, :-1], edges[:, 1:])]
