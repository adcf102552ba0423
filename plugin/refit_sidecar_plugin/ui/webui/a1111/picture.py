"""The picture that is being made in A1111: what the user wants of it, and whether an engine still has a part in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ..wish import Wish


@dataclass
class Picture:
    """Written and read by the sampling thread only. `processing` is None outside of a picture; `given_up`: the UI makes the rest of it."""

    wish: Wish = Wish(enabled=True)
    processing: Any = None
    tags: dict[str, list[Any]] = field(default_factory=dict)
    given_up: bool = False

    def begin(self, wish: Wish) -> None:
        self.wish, self.given_up = wish, False
        self.end()

    def end(self) -> None:
        self.processing, self.tags = None, {}


@cache
def picture() -> Picture:
    """The one of this UI process: the UI makes its UNet objects anew whenever the checkpoint changes, also within a picture."""
    return Picture()
