"""Inputs of a step as a UI sends them. In: a model's ports. Out: random tensors of small, uneven sizes."""

from __future__ import annotations

import re

import torch
from refit_graphs.descriptions import typical
from torch import Tensor

# Members of lists of tensors.
LISTED = re.compile(r"(reference_latents|\w+_controls)_(\d+)")
SIZES = {
    "guide_rows": 1,
    "guides": 1,
    "kept": 1,
    "weighed": 1,
    "batch": 2,
    "frames": 1,
    "height": 12,
    "width": 16,
    "tokens": 9,
    "image_tokens": 7,
    "letters": 5,
}
# Sizes of a family: several frames of a video, ...
VIDEOS = {
    "wan": {"frames": 3, "tokens": 512, "controls": 1, "pose_frames": 2, "face_frames": 5, "face_rows": 16, "face_columns": 16},
    "ltxv": {"frames": 3},
    "ltx2": {"frames": 3, "sounds": 5},
    "minimax-h3": {"frames": 7, "sounds": 5, "rows": 1, "height": 8},
    "hunyuan-video": {"frames": 3},
    "hunyuan-video-1.5": {"frames": 3},
    "kandinsky5": {"frames": 3, "first_channels": 16, "first_frames": 1},
    "hidream": {"width": 12, "layers": 4, "words": 6},
}
# Chroma's runs have none.
GUIDANCE = {"chroma": 0.0}

# What stands in a file's metadata: as in files without.
SETTINGS = ("causal", "middle")
# As published files of a family have them.
ALWAYS = {"ltx2": ("audio_sample", "audio_timestep")}
USUAL = {"ltx2": {"causal": 1.0, "middle": 1.0, "halves": 1.0, "precise": 1.0, "gate_scale": 1000.0}}


def inputs_of(spec, *, optional: bool = False, batch: int = 2, sizes: dict[str, int] | None = None) -> dict[str, Tensor]:
    """A step as a UI sends it; with `optional` two reference latents of other sizes, a mask that leaves words out and two answers of a ControlNet."""
    make = torch.Generator().manual_seed(3)
    usual, always = USUAL.get(spec.family, {}), ALWAYS.get(spec.family, ())
    known = {**SIZES, **VIDEOS.get(spec.family, {}), "batch": batch, **(sizes or {})}
    out = {}
    for port in spec.ports.inputs:
        name = port["name"]
        number = int(found[2]) if (found := LISTED.fullmatch(name)) else None
        if "call" in port or port.get("optional") and name not in {*usual, *always} and (not optional or (number or 0) > 1):
            continue
        if found is not None and found[1] != "reference_latents":
            rows, columns = (-(-out["sample"].shape[axis] // 2) for axis in (-2, -1))
            known |= {f"batch_{number}": batch, port["shape"][1]: rows * columns, "last_patches": rows * columns}
        elif number is not None:
            known |= {f"references_{number}": 1, f"frames_{number}": 1, f"height_{number}": 8 - 4 * number, f"width_{number}": 8}
        if name in SETTINGS or name == "token_timesteps":
            known |= {"cells": 1}
        out[name] = torch.randn([known.get(axis, axis) for axis in port["shape"]], generator=make)
    out["timestep"] = torch.linspace(0.8, 0.3, batch) * (1000 if typical(spec.family, "timestep") is None else 1)
    if "frame_timesteps" in out:
        out["frame_timesteps"] = out["timestep"][:, None].repeat(1, out["frame_timesteps"].shape[1])
        out["frame_timesteps"][:, 0] = 0
    if "token_timesteps" in out:
        cells = out["sample"].shape[2:].numel()
        out["token_timesteps"] = out["timestep"][:, None].repeat(1, cells)
        out["token_timesteps"][:, : cells // 3] = 0
    if "frame_rate" in out:
        out["frame_rate"] = torch.full((batch,), 24.0)
    out |= {name: torch.full((batch,), usual.get(name, 0.0)) for name in {*SETTINGS, *usual} if name in out}
    if "word_kinds" in out:
        out["word_kinds"] = (torch.arange(out["word_kinds"].shape[1]) > 4).float()[None]
        out |= {name: torch.full((batch,), value) for name, value in (("audio_scale", 4.0), ("shift_video", 8.0), ("shift_audio", 2.0))}
    if "audio_timestep" in out:
        out["audio_timestep"] = out["timestep"].clone()
    if "audio_token_timesteps" in out:
        out["audio_token_timesteps"] = out["timestep"][:, None].repeat(1, out["audio_sample"].shape[2])
        out["audio_token_timesteps"][:, :2] = 0
    if "vace_strength" in out:
        out["vace_strength"] = torch.full_like(out["vace_strength"], 0.7)
    if "target_timestep" in out:
        out["target_timestep"] = out["timestep"] / 2
    if "guidance" in out:
        out["guidance"] = torch.full((batch,), GUIDANCE.get(spec.family, 4.0))
    if "guide_places" in out:
        out |= guides(out["sample"])
    if "attention_mask" in out:
        out["attention_mask"] = torch.ones_like(out["attention_mask"])
        out["attention_mask"][-1, 6:] = 0
    return out


def guides(sample: Tensor) -> dict[str, Tensor]:
    """The last frame is a guide from another time; the model sees every second of its cells, and both look at each other less."""
    video, each = sample.shape[2:].numel(), sample.shape[3:].numel()
    cells = [*range(video - each), *range(video - each, video, 2)]
    first = torch.stack([torch.full((each,), 9.0), torch.arange(each) * 32.0, torch.arange(each) * 16.0])
    places = torch.stack([first, first + 8], dim=-1)[None, :, ::2]
    return {"kept_cells": torch.tensor([cells]).float(), "guide_places": places, "guide_weights": torch.full((1, places.shape[2]), 0.6)}


def other_settings(spec, inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The same step as a file with another setting has it, and without any that has a usual value."""
    names, usual = {port["name"] for port in spec.ports.inputs}, USUAL.get(spec.family, {})
    if usual:
        bare = {name: value for name, value in inputs.items() if name not in usual}
        return [bare, *({**bare, name: torch.full((2,), value)} for name, value in usual.items())]
    return [inputs | {name: torch.ones(2)} for name in SETTINGS if name in names]


def words_of(spec, *, batch: int = 1) -> dict[str, Tensor]:
    """The call that makes a run's words, where the family has one."""
    make = torch.Generator().manual_seed(4)
    sizes = {"batch": batch, "words": 6, "ids": 9}
    ports = [port for port in spec.ports.inputs if port.get("call") == "words"]
    out = {port["name"]: torch.randn([sizes.get(axis, axis) for axis in port["shape"]], generator=make) for port in ports}
    if "word_ids" in out:
        out["word_ids"] = torch.randint(0, 1000, out["word_ids"].shape, generator=make).float()
    if "word_halves" in out:
        out["word_halves"] = torch.ones(batch)
    return out
