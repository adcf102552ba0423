"""What the user chose in the panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...engine import HOSTS


@dataclass(frozen=True)
class Wish:
    enabled: bool = False
    host: str = "auto"

    @classmethod
    def of(cls, values: Sequence[object]) -> Wish:
        """From the panel's components, in their order. An API call may send fewer, more (there was a third), or anything; what makes no sense is "auto"."""
        enabled, host = [*values, None, None][:2]
        return cls(bool(enabled), host if host in HOSTS else "auto")
