"""Puts quantised layers into a module: each chosen linear layer becomes a QuantLinear over views of codes and scales."""

from __future__ import annotations

from typing import Callable, Mapping

from torch import Tensor, nn

from ..models.spec import Source
from .branch import Branch
from .formats import Format
from .linear import QuantLinear

# Codes and scales of a whole parameter, the groups of columns that it turned, and what stays beside it.
Held = tuple[Mapping[str, Tensor], int, "Branch | None"]


def replace_linears(module: nn.Module, layers: Mapping[str, Source], held: Callable[[str], Held], form: Format, way: str) -> nn.Module:
    """A layer takes its rows of each part of its parameter, and of its branch. Biases stay the module's own."""
    for name, source in layers.items():
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        layer = getattr(owner, leaf)
        whole, rotation, branch = held(source.parameter)
        begin, count = source.rows or (0, layer.out_features)
        parts = {key: value[begin : begin + count] for key, value in whole.items()}
        setattr(owner, leaf, QuantLinear(form, parts, layer.bias, way, rotation, None if branch is None else branch.rows(begin, count)))
    return module
