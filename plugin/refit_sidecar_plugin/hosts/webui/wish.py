"""What the user chose in the panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...engine import HOSTS, PROFILES

EXACT = PROFILES[1]


@dataclass(frozen=True)
class Wish:
    """`profile`: "auto", or "exact size" for an engine of just this picture's size."""

    enabled: bool = False
    host: str = "auto"
    profile: str = "auto"

    @classmethod
    def of(cls, values: Sequence[object]) -> Wish:
        """From the panel's components, in their order. An API call may send fewer, or anything; what makes no sense is "auto"."""
        enabled, host, profile = [*values, None, None, None][:3]
        return cls(bool(enabled), host if host in HOSTS else "auto", profile if profile in PROFILES else "auto")
