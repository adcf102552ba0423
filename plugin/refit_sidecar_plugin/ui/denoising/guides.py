"""Guides of a video (ComfyUI's LTX): frames of other pictures behind the video's own, with places of their own.

In: a call's arguments. Out: where the guides' cells stand, which cells the model sees, and how much guides and video look at each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from .refusal import NotServed

Given = torch.Tensor | None


def guides_of(named: dict[str, Any]) -> tuple[Given, Given, Given]:
    """Places [1 or b, 3, guides, 2], numbers of the cells that are seen [1, n] (None: all), weights of the guides' cells [1, m] (None: 1), each as f32.

    Takes the arguments out of `named`. A negative mask takes a cell away from the model: a guide of fewer pixels has one cell for several of the video's.
    """
    places, entries = named.pop("keyframe_idxs", None), named.pop("guide_attention_entries", None)
    mask = named.get("denoise_mask")
    if places is None or places.shape[2] == 0:
        return None, None, None
    if places.ndim == 3:
        # ComfyUI 0.3.64 says where cells begin and looks at nothing else.
        places = places[..., None].expand(*places.shape, 2)
    kept, count = None, places.shape[2]
    seen = torch.ones(count, dtype=torch.bool, device=places.device)
    if mask is not None:
        cells = (mask[:1].amin(dim=1).expand(1, *_sizes(named, mask)) >= 0).flatten()
        if not cells.all():
            kept = cells.nonzero()[:, 0].float()[None]
            seen = cells[-count:].to(places.device)
    weights = _weights(entries, seen) if entries else None
    places = places[:, :, seen]
    return (places.float() if places.shape[2] else None), kept, weights


def _sizes(named: Mapping[str, Any], mask: torch.Tensor) -> Sequence[int]:
    """Frames, rows and columns of the video; a mask may have one number for a whole frame."""
    sample = next(iter(named.values()))
    video = sample[0] if isinstance(sample, (list, tuple)) else sample
    return video.shape[2:] if mask.ndim == 5 else mask.shape[2:]


def _weights(entries: Sequence[Mapping[str, Any]], seen: torch.Tensor) -> Given:
    """[1, m] of the guides' cells that are seen; None where every one is 1. A guide has a strength, and perhaps a mask in pixels."""
    if sum(entry["pre_filter_count"] for entry in entries) != len(seen):
        raise NotServed("guides of another size than the video's", "RUN_INPUT")
    out: list[torch.Tensor] = []
    first = 0
    for entry in entries:
        count = int(seen[first : first + entry["pre_filter_count"]].sum())
        first += entry["pre_filter_count"]
        mask, strength = entry.get("pixel_mask"), float(entry["strength"])
        if mask is None or entry.get("latent_shape") is None:
            out.append(torch.full((count,), strength, device=seen.device))
        elif count:
            out.append(_in_cells(mask[0, 0].float(), entry["latent_shape"]).flatten()[:count].to(seen.device) * strength)
    weights = torch.cat(out) if out else torch.ones(0)
    return None if bool((weights == 1).all()) else weights[None]


def _in_cells(mask: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """A mask [frames, rows, columns] in pixels as one of cells: the first frame is a cell's alone, those behind it share theirs evenly; frames that are left over do not count."""
    frames, rows, columns = sizes
    small = functional.interpolate(mask[:, None], size=(rows, columns), mode="area")[:, 0]
    if frames == 1:
        return small[:1]
    first, rest = small[:1], small[1:]
    if not len(rest):
        return first.expand(frames, -1, -1)
    each = len(rest) // (frames - 1)
    if each:
        later = rest[: each * (frames - 1)].reshape(frames - 1, each, rows, columns).mean(dim=1)
    else:
        later = functional.interpolate(rest.flatten(1).T[None], size=frames - 1, mode="nearest")[0].T.reshape(frames - 1, rows, columns)
    return torch.cat([first, later])
