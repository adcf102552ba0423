"""States of an engine, in the words of docs/develop/design.md."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """LIVE: the engine's weights are the module's. NEEDS_REFIT: values differ. NEEDS_RECOMPILE: the structure differs, or a call lies outside of what
    was compiled. UNKNOWN: something changed that may or may not matter; the next call compares and decides."""

    LIVE = "LIVE"
    NEEDS_REFIT = "NEEDS_REFIT"
    NEEDS_RECOMPILE = "NEEDS_RECOMPILE"
    UNKNOWN = "UNKNOWN"

    __str__ = str.__str__
