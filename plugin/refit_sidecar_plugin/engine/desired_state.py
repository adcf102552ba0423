"""What a run wants of an engine: the desired state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class StackEntry(NamedTuple):
    """`adapter`: catalogue id or SHA-256. `targets`: what the UI's loader changes with it (`stack.targets_digest`); None: not said."""

    adapter: str
    strength: float
    targets: str | None = None


@dataclass(frozen=True)
class Wanted:
    """`checkpoint` is a catalogue id; `stack` is in order of application."""

    checkpoint: str
    stack: tuple[StackEntry, ...]
    host: str = "auto"
    precision: str = "auto"
    residuals: bool = False

    def as_params(self) -> dict[str, object]:
        return {
            "checkpoint": self.checkpoint,
            "stack": [{name: value for name, value in entry._asdict().items() if value is not None} for entry in self.stack],
            "precision": self.precision,
            "host": self.host,
            "mode": "comfyui",
            "residuals": self.residuals,
        }
