"""What a run wants of an engine: the desired state and the shape of its calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Range(NamedTuple):
    min: int
    opt: int
    max: int

    def as_params(self) -> dict[str, int]:
        return self._asdict()


@dataclass(frozen=True)
class Wanted:
    """`checkpoint` is a catalogue id; `stack` holds (adapter id or SHA-256, strength) in order of application.

    `profile` None leaves the ranges to the sidecar; else batch, height, width (latent cells) and tokens.
    """

    checkpoint: str
    stack: tuple[tuple[str, float], ...]
    host: str = "auto"
    precision: str = "auto"
    profile: dict[str, Range] | None = None
    residuals: bool = False

    def as_params(self) -> dict[str, object]:
        return {
            "checkpoint": self.checkpoint,
            "stack": [{"adapter": adapter, "strength": strength} for adapter, strength in self.stack],
            "profile": "auto" if self.profile is None else {name: size.as_params() for name, size in self.profile.items()},
            "precision": self.precision,
            "host": self.host,
            "mode": "comfyui",
            "residuals": self.residuals,
        }
