"""A tensor on its way over the wire."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WireTensor:
    """`dtype` as the wire spells it (f32, f16, bf16, u8, i64); `data` row-major, little-endian, valid until the call is answered."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview
