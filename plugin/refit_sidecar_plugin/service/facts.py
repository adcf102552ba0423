"""What pages and nodes show: the connection, the last run, recent events. Changes are told to listeners."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..engine import RunReport

KEPT_EVENTS = 200

Listener = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class LastRun:
    """`reason` is empty when an engine served."""

    served_by: Literal["engine", "local"]
    checkpoint: str
    reason: str = ""
    report: RunReport = field(default_factory=RunReport)
    at: float = field(default_factory=time.time)


class Facts:
    """Safe from every thread. Listeners are called outside the lock, with an event name and plain data."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: dict[str, Any] = {"state": "starting", "text": "The sidecar is starting."}
        self._last_run: LastRun | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        self._told = 0
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.append(listener)

    def connection(self, state: Literal["starting", "connected", "lost", "missing"], text: str) -> None:
        with self._lock:
            changed = self._connection != {"state": state, "text": text}
            self._connection = {"state": state, "text": text}
        if changed:
            self.tell("connection", {"state": state, "text": text})

    def ran(self, run: LastRun) -> None:
        with self._lock:
            self._last_run = run
        self.tell("run", asdict(run))

    def happened(self, event: dict[str, Any]) -> None:
        """An event of the sidecar, as it came."""
        with self._lock:
            self._events.append(event)
            self._told += 1
        self.tell("event", event)

    def snapshot(self, after: int = 0) -> dict[str, Any]:
        """`events`: the kept ones that came after the first `after`; `told` is what a page gives as `after` the next time."""
        with self._lock:
            old = max(0, after - (self._told - len(self._events)))
            last_run = asdict(self._last_run) if self._last_run else None
            return {"connection": dict(self._connection), "lastRun": last_run, "events": list(self._events)[old:], "told": self._told}

    @property
    def state(self) -> str:
        with self._lock:
            return self._connection["state"]

    def tell(self, name: str, data: dict[str, Any]) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(name, data)
