"""The fake sidecar with what a page asks for, and a service on it that no file of the machine is needed for."""

from __future__ import annotations

from typing import Any

from fake_sidecar import FakeSidecar


class PageSidecar(FakeSidecar):
    paused = False

    def do_status(self, *_: Any) -> dict[str, Any]:
        return {"watch": {"paused": self.paused, "folders": len(self.folders)}}

    def do_watch_pause(self, *_: Any) -> dict[str, Any]:
        self.paused = True
        return {"paused": True}

    def do_watch_resume(self, *_: Any) -> dict[str, Any]:
        self.paused = False
        return {"paused": False}

    def do_engine_refit(self, *_: Any) -> dict[str, Any]:
        return {"job": "job-2"}

    def do_engine_rebuild(self, *_: Any) -> dict[str, Any]:
        return {"job": "job-3"}

    def do_events_history(self, *_: Any) -> dict[str, Any]:
        event = {"type": "refit.committed", "ms": 41.5, "writes": 64, "stack": [{"adapter": "a", "strength": 1}]}
        return {"events": [{"atMs": 1767225600000, "at": "2026-01-01T00:00:00Z", "event": event}]}
