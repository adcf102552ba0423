"""What a page may ask of the sidecar, through the UI's own server. The page never holds a token."""

from __future__ import annotations

from typing import Any

from ..engine import Link

# Reading: GET. Changing: POST with a JSON body from the same origin (the host's routes see to that).
READS = frozenset(
    {
        "status",
        "engine.list",
        "engine.history",
        "jobs.list",
        "catalog.list",
        "catalog.notes",
        "catalog.preview",
        "adapter.layers",
        "folders.list",
        "events.history",
        "telemetry.figures",
        "cache.list",
    }
)
CHANGES = frozenset(
    {
        "engine.warm",
        "engine.refit",
        "engine.rebuild",
        "engine.free",
        "engine.restack",
        "engine.draw",
        "watch.pause",
        "watch.resume",
        "jobs.pause",
        "jobs.resume",
        "jobs.cancel",
    }
)

# A page may wait this long; longer work is a job with its own progress.
PAGE_PATIENCE_S = 10.0


class RelayRefused(Exception):
    """The call is not on the list."""


class Relay:
    def __init__(self, link: Link) -> None:
        self._link = link

    def read(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return self._relay(READS, method, params)

    def change(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return self._relay(CHANGES, method, params)

    def _relay(self, allowed: frozenset[str], method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Raises RelayRefused or SidecarError. Blocking; call it off the UI's event loop."""
        if method not in allowed:
            raise RelayRefused(method)
        return self._link.call(method, params, timeout_s=PAGE_PATIENCE_S).result
