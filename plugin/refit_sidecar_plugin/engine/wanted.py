"""What a run wants of an engine: the desired state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """`checkpoint` is a catalogue id; `stack` holds (adapter id or SHA-256, strength) in order of application."""

    checkpoint: str
    stack: tuple[tuple[str, float], ...]
    host: str = "auto"
    precision: str = "auto"
    residuals: bool = False

    def as_params(self) -> dict[str, object]:
        return {
            "checkpoint": self.checkpoint,
            "stack": [{"adapter": adapter, "strength": strength} for adapter, strength in self.stack],
            "precision": self.precision,
            "host": self.host,
            "mode": "comfyui",
            "residuals": self.residuals,
        }
