"""Guides of LTX-Video and LTX-2: cells of other pictures behind the video's own.

Inputs of a step: `guide_places` [1 or b, 3, guides, 2] says where they stand (ltx_places.py), `kept_cells` [1, n] which cells of video and guides the model sees at
all, `guide_weights` [1, m] how much the first m guides' cells and the video look at each other (1: as at everything else).
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

import torch
from torch import Tensor

from .attention import mix


class Guides(NamedTuple):
    """`start`: cells of the video itself. `scores` [m]: added where these look at a guide's cell, and where that looks at these."""

    start: int
    scores: Tensor

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of [batch, cells, heads, width]. In parts: a mask of every cell for every cell would have gigabytes."""
        total, end = query.shape[1], self.start + len(self.scores)
        at_guides = query.new_zeros(1, 1, 1, total)
        at_guides[..., self.start : end] = self.scores
        of_guides = query.new_zeros(1, 1, len(self.scores), total)
        of_guides[..., : self.start] = self.scores[:, None]
        parts = [mix(query[:, : self.start], key, value, at_guides), mix(query[:, self.start : end], key, value, of_guides)]
        if end < total:
            parts.append(mix(query[:, end:], key, value))
        return torch.cat(parts, dim=1)


def guides_of(inputs: Mapping[str, Tensor], cells: int, dtype: torch.dtype) -> Guides | None:
    """None where all look at all alike. `cells`: those that the model sees."""
    weights, places = inputs.get("guide_weights"), inputs.get("guide_places")
    if weights is None or places is None:
        return None
    never = torch.full_like(weights[0], torch.finfo(dtype).min)
    scores = torch.where(weights[0] > 0, weights[0].clamp(min=torch.finfo(torch.float32).tiny).log(), never)
    return Guides(cells - places.shape[2], scores.to(dtype))


def kept(inputs: Mapping[str, Tensor], values: Tensor) -> Tensor:
    """[b, cells, ...] of the cells that the model sees; one for all cells stays as it is."""
    if "kept_cells" not in inputs or values.shape[1] == 1:
        return values
    return values.index_select(1, inputs["kept_cells"][0].long())


def put_back(inputs: Mapping[str, Tensor], values: Tensor, cells: int) -> Tensor:
    """The way back to all `cells`, with zeros for those that the model did not see."""
    if "kept_cells" not in inputs:
        return values
    return values.new_zeros(len(values), cells, values.shape[2]).index_copy(1, inputs["kept_cells"][0].long(), values)
