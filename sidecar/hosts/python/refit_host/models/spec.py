"""What a family says about a structure: its module, where the module's parameters come from, and how a step calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Mapping

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..fused.passes import Operations

Shapes = Mapping[str, tuple[int, ...]]
Fuse = Callable[[torch.nn.Module, "Operations"], torch.nn.Module]


@dataclass(frozen=True)
class Source:
    """Where a module parameter's values lie: a canonical parameter, or rows (start, length) of it; `swap_halves`: rows of the
    module are the parameter's with halves exchanged."""

    parameter: str
    rows: tuple[int, int] | None = None
    swap_halves: bool = False


@dataclass(frozen=True)
class Ports:
    """What a step takes and gives, in the words of graph.json (docs/develop/internals.md)."""

    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ModelSpec:
    """`build` makes the module on the meta device; nothing of it but parameters and mapped buffers stays there.

    `sources`: module parameter -> canonical. `repeated`: classes worth compiling on their own, because the model repeats them.
    `forward`: one denoiser call from the step's named inputs (graph.json lists them).
    `ports`: where an engine can do without a graph's table.
    `fuse`: gives a module that `build` made and that is bound to weights the fused blocks of this family (refit_host/fused), where there are any.
    """

    family: str
    config: Mapping[str, Any]
    build: Callable[[], torch.nn.Module]
    sources: Mapping[str, Source]
    repeated: tuple[str, ...]
    forward: Callable[[torch.nn.Module, Mapping[str, Tensor]], Tensor]
    fuse: Fuse | None = None
    ports: Ports | None = None
