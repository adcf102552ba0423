"""Wan on a device: rotary positions from frequencies that stay there."""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from refit_graphs.wan import THETA
from torch import Tensor

from .rotation import Frequencies, cos_sin


def adapt(module: torch.nn.Module, config: Mapping[str, Any]) -> torch.nn.Module:
    head, patch = config["attention_head_dim"], config["patch_size"]
    side = 2 * (head // 6)
    frequencies = Frequencies((head - 2 * side, side, side), THETA)

    def rotation(_: torch.nn.Module, sample: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [sample.shape[2 + axis] // patch[axis] for axis in range(3)]
        parts = []
        for axis, values in enumerate(frequencies.on(sample.device)):
            one = torch.arange(sizes[axis], device=sample.device)[:, None] * values
            parts.append(
                one.reshape(*(-1 if i == axis else 1 for i in range(3)), len(values)).expand(*sizes, len(values)).reshape(-1, len(values))
            )
        return cos_sin(parts)

    # diffusers' own tables (on the meta device here) give way to the frequencies above.
    module.rope._buffers.clear()
    module.rope.forward = MethodType(rotation, module.rope)
    return module
