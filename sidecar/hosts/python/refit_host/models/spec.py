"""What a family says about a structure: its module, where the module's parameters come from, and how a step calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """Where a module parameter's values lie: a canonical parameter, or rows (start, length) of it; `swap_halves`: rows of the
    module are the parameter's with halves exchanged."""

    parameter: str
    rows: tuple[int, int] | None = None
    swap_halves: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """`build` makes the module on the meta device. `sources`: module parameter -> canonical. `repeated`: class names worth
    compiling on their own, because the model repeats them. `call`: named inputs -> arguments of the module."""

    family: str
    config: Mapping[str, Any]
    build: Callable[[], torch.nn.Module]
    sources: Mapping[str, Source]
    repeated: tuple[str, ...]
    call: Callable[[Mapping[str, Tensor]], Call]

    def forward(self, module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """One denoiser call: the first output."""
        positional, named = self.call(inputs)
        return module(*positional, **named)[0]
