"""What a family says about a structure: which class, which configuration, and which canonical parameter each module parameter is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

import torch

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Source:
    """Where a module parameter's values lie: a canonical parameter, or rows of it; or its rows with halves exchanged."""

    parameter: str
    rows: tuple[int, int] | None = None
    swap_halves: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """`build` makes the module on the meta device. `sources`: module parameter -> canonical. `repeated`: class names worth
    compiling on their own, because the model repeats them."""

    family: str
    config: Mapping[str, Any]
    build: Callable[[], torch.nn.Module]
    sources: Mapping[str, Source]
    repeated: tuple[str, ...]
    inputs: tuple[str, ...]
    residual_channels: tuple[int, ...] = field(default=())
