"""Puts quantised layers into a module: each chosen linear layer becomes a QuantLinear over views of codes and scales."""

from __future__ import annotations

from typing import Mapping

from torch import nn

from ..models.spec import Source
from .formats import Format
from .linear import QuantLinear
from .weights import QuantWeights


def replace_linears(
    module: nn.Module, layers: Mapping[str, Source], weights: QuantWeights, form: Format, way: str, *, branched: bool
) -> nn.Module:  # fmt: skip
    """A layer takes its rows of each part of its parameter, with `branched` also of the branch that is held for it. Biases stay the module's own."""
    for name, source in layers.items():
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        layer = getattr(owner, leaf)
        slot = weights.slot(source.parameter)
        whole, branch = weights.stored.parts(slot, weights.live), weights.branches.held.get(slot.index) if branched else None
        begin, count = source.rows or (0, layer.out_features)
        parts = {key: value[begin : begin + count] for key, value in whole.items()}
        setattr(owner, leaf, QuantLinear(form, parts, layer.bias, way, slot.rotation, None if branch is None else branch.rows(begin, count)))
    return module
