"""Joins a module and an arena: every parameter of the module becomes a view of the arena, so a refit is seen by the next step."""

from __future__ import annotations

from types import MappingProxyType
from typing import Callable, Mapping

import torch
from torch import Tensor

from ..failure import expect
from ..weights.layout import Layout, Slot
from .spec import ModelSpec, Shapes


def layout_of(
    spec: ModelSpec, shapes: Shapes, dtype: torch.dtype, *, channels_last: bool, part: Mapping[str, int] = MappingProxyType({}),
    rotated: Mapping[str, int] = MappingProxyType({}),
) -> Layout:  # fmt: skip
    """Layout of the engine's arena; `part` and `rotated` as in Layout.build. Raises HOST_SHAPE_MISMATCH when the model wants a parameter that the checkpoint lacks."""
    missing = sorted({source.parameter for source in spec.sources.values()} - shapes.keys())
    expect(not missing, "HOST_SHAPE_MISMATCH", f"the {spec.family} model needs parameters that the checkpoint lacks", missing=missing[:8])
    swapped = frozenset(source.parameter for source in spec.sources.values() if source.swap_halves)
    return Layout.build(shapes, dtype, channels_last=channels_last, swapped=swapped, part=part, rotated=rotated)


def _owner(module: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def bind(module: torch.nn.Module, spec: ModelSpec, layout: Layout, arena: Tensor | Callable[[Slot], Tensor]) -> torch.nn.Module:
    """Replaces the module's (meta) parameters by views of `arena` (a function: of the memory it names for a slot). Raises HOST_SHAPE_MISMATCH naming the parameter."""
    for name, parameter in list(module.named_parameters()) + list(module.named_buffers()):
        source = spec.sources.get(name)
        if source is None:
            continue
        slot = layout.by_name[source.parameter]
        value = slot.view(arena(slot) if callable(arena) else arena)
        if source.rows is not None:
            value = value[source.rows[0] : source.rows[0] + source.rows[1]]
        if value.shape != parameter.shape and value.numel() == parameter.numel():
            value = value.view(parameter.shape)
        expect(
            value.shape == parameter.shape,
            "HOST_SHAPE_MISMATCH",
            f"{source.parameter}: the model wants {list(parameter.shape)}, the checkpoint gives {list(value.shape)}",
            parameter=source.parameter,
        )
        owner, leaf = _owner(module, name)
        if leaf in owner._parameters:
            owner._parameters[leaf] = torch.nn.Parameter(value, requires_grad=False)
        else:
            owner._buffers[leaf] = value
    left = [name for name, p in [*module.named_parameters(), *module.named_buffers()] if p.is_meta]
    expect(not left, "HOST_SHAPE_MISMATCH", f"the {spec.family} model has parameters without a source", parameters=left[:8])
    return module.eval().requires_grad_(False)
