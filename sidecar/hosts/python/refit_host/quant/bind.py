"""Puts quantised layers into a module: each chosen linear layer becomes a QuantLinear over views of codes and scales."""

from __future__ import annotations

from typing import Callable, Mapping

from torch import Tensor, nn

from ..models.spec import Source
from .formats import Format
from .linear import QuantLinear


def replace_linears(
    module: nn.Module, layers: Mapping[str, Source], parts: Callable[[str], Mapping[str, Tensor]], form: Format, way: str
) -> nn.Module:  # fmt: skip
    """`parts`: codes and scales of a whole parameter, row by row; a layer takes its rows of each. Biases stay the module's own."""
    for name, source in layers.items():
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        layer = getattr(owner, leaf)
        whole = parts(source.parameter)
        begin, count = source.rows or (0, layer.out_features)
        setattr(owner, leaf, QuantLinear(form, {key: value[begin : begin + count] for key, value in whole.items()}, layer.bias, way))
    return module
