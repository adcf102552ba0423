"""Reference latents of edit models: further pictures that a step sees beside the noisy one, each of its own size.

In: a step's inputs `reference_latents_0`, `reference_latents_1`, ... Out: the pictures in order, and where each stands among the positions.
"""

from __future__ import annotations

from typing import Mapping

from torch import Tensor

PREFIX = "reference_latents_"


def references(inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """In the order of their numbers; one row stands for the whole batch."""
    batch = inputs["sample"].shape[0]
    names = sorted((name for name in inputs if name.startswith(PREFIX)), key=lambda name: int(name.removeprefix(PREFIX)))
    return [inputs[name].expand(batch, *inputs[name].shape[1:]) for name in names]


def beside_each_other(pictures: list[Tensor], patch: int) -> list[tuple[int, int]]:
    """Row and column, in patches, at which each picture begins: below or right of those before it, wherever the whole stays more square (ComfyUI's `offset`)."""
    places, down, across = [], 0, 0
    for picture in pictures:
        height, width = picture.shape[-2:]
        row, column = (0, across) if height + down > width + across else (down, 0)
        down, across = max(down, height + row), max(across, width + column)
        places.append(((row + patch // 2) // patch, (column + patch // 2) // patch))
    return places
