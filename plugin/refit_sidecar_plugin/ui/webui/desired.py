"""What one picture asks of an engine, in files and strengths."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Applied:
    """One LoRA file at its UNet strength."""

    path: str
    strength: float

    @property
    def name(self) -> str:
        return os.path.splitext(os.path.basename(self.path))[0]


@dataclass(frozen=True)
class Desired:
    """`stack` is in order of application. `checkpoint` is a file's path."""

    checkpoint: str
    stack: tuple[Applied, ...]

    @property
    def name(self) -> str:
        return os.path.basename(self.checkpoint)
