"""What the host itself has to say, to the sidecar at its own level. Libraries' lines stay on stderr, where the sidecar keeps them for debugging."""

from __future__ import annotations

import logging
from typing import Any, Callable

# As the host protocol takes it.
MOST_CHARACTERS = 2000


class ToSidecar(logging.Handler):
    """`notify`: sends a notification of the host protocol."""

    def __init__(self, notify: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__()
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        level = (
            "error"
            if record.levelno >= logging.ERROR
            else "warn"
            if record.levelno >= logging.WARNING
            else "info"
            if record.levelno >= logging.INFO
            else "debug"
        )
        self._notify("log", {"level": level, "message": record.getMessage()[:MOST_CHARACTERS]})
