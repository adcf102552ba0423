"""What the panel shows: the user's wishes and how the last run went. Written by the backends, read by the pages, from any thread."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

State = Literal["idle", "warming", "refitting", "serving", "fallback"]


@dataclass(frozen=True)
class View:
    """`line` is one clear sentence about `state`. `stack` holds (LoRA name, UNet strength) in order of application."""

    enabled: bool = False
    host: str = "auto"
    state: State = "idle"
    line: str = "No picture was made yet."
    last_refit_ms: float | None = None
    engine: str = ""
    stack: tuple[tuple[str, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Status:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view = View()

    @property
    def view(self) -> View:
        """One consistent value."""
        with self._lock:
            return self._view

    def update(self, **changes: Any) -> None:
        """Sets fields of View by name. TypeError for a name that it does not have."""
        with self._lock:
            self._view = replace(self._view, **changes)
