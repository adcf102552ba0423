"""What a number format of matrices must be able to do. A format has no state: values in, codes and scales out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Protocol

import torch
from torch import Tensor

from .fp8 import Fp8
from .int8 import Int8
from .nvfp4 import Nvfp4

Parts = Mapping[str, Tensor]
# Float dtype of a quantised engine: of base, inputs, and the layers that stay whole.
FLOAT = torch.bfloat16


@dataclass(frozen=True)
class Part:
    """One stored tensor of a quantised matrix."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Format(Protocol):
    """`multiple`: both sizes of a matrix must be divisible by it, or the matrix stays high precision."""

    name: str
    multiple: int

    def parts(self, rows: int, cols: int) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]: ...

    code: torch.dtype

    def encode(self, value: Tensor, base: Parts | None = None, chance: Tensor | None = None) -> dict[str, Tensor]: ...

    def decode(self, parts: Parts) -> Tensor: ...

    def steps(self, parts: Parts) -> Tensor: ...


FORMATS: dict[str, Format] = {"fp8": Fp8(), "int8": Int8(), "nvfp4": Nvfp4()}


def parts_of(form: Format, rows: int, cols: int) -> tuple[Part, ...]:
    """The stored tensors of a [rows, cols] matrix."""
    return tuple(Part(*row) for row in form.parts(rows, cols))
