"""What a product takes: values as they are, or fp8 codes with one scale per row."""

from __future__ import annotations

from typing import Union

from torch import Tensor, nn

from ..quant.linear import QuantLinear

# [rows, cols], or (codes [rows, cols], scales [rows, 1] f32).
Rows = Union[Tensor, tuple[Tensor, Tensor]]


def takes_codes(*layers: nn.Module) -> bool:
    """Whether all of these multiply fp8 codes: then what comes before gives them."""
    return all(isinstance(layer, QuantLinear) and layer.way == "rowwise" for layer in layers)


def product(layer: nn.Module, rows: Rows) -> Tensor:
    """[rows, cols] to [rows, rows of the layer]."""
    if isinstance(rows, tuple):
        assert isinstance(layer, QuantLinear)
        return layer.product(*rows)
    return layer(rows)
