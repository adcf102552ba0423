"""What a run wants of an engine: the desired state and the shape of its calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Range(NamedTuple):
    min: int
    opt: int
    max: int

    def as_params(self) -> dict[str, int]:
        return self._asdict()


def exact_profile(batch: int, parts: int, height: int, width: int, tokens: Iterable[int]) -> dict[str, Range]:
    """One size in latent cells, for one up to `parts` conditionings of `batch` images in a call, with these numbers of prompt tokens."""
    counts = list(tokens) or [77]
    return {
        "batch": Range(1, batch * max(1, parts), batch * max(1, parts)),
        "height": Range(height, height, height),
        "width": Range(width, width, width),
        "tokens": Range(min(counts), max(counts), max(counts)),
    }


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
