"""What a product takes: values as they are, or fp8 or int8 codes with one scale per row."""

from __future__ import annotations

from typing import Union

import torch
from torch import Tensor, nn

from ..quant.linear import QuantLinear

# [rows, cols], or (codes [rows, cols], scales [rows, 1] f32).
Rows = Union[Tensor, tuple[Tensor, Tensor]]


def takes_codes(*layers: nn.Module) -> torch.dtype | None:
    """Codes that all of these multiply: then what comes before gives them. None: values as they are."""
    (kind, *others) = {layer.code_dtype if isinstance(layer, QuantLinear) else None for layer in layers}
    return None if others else kind


def product(layer: nn.Module, rows: Rows) -> Tensor:
    """[rows, cols] to [rows, rows of the layer]."""
    if isinstance(rows, tuple):
        assert isinstance(layer, QuantLinear)
        return layer.product(*rows)
    return layer(rows)
