"""Keeps one connection to the sidecar alive, in one background thread, for as long as the UI runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from ..engine import Link, Pending, Unavailable, WireTensor
from ..engine.link import Progress
from .catalog import Catalog, call
from .facts import Facts
from .push import Pusher
from .relay import Relay

TOPICS = ["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"]
# A run that starts together with the UI waits this long for the sidecar before it goes the UI's own way.
START_PATIENCE_S = 20.0
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class Folder(NamedTuple):
    path: str
    kind: Literal["adapters", "checkpoints"]


class Connection(Link, Protocol):
    """A session after its hello."""

    def closed(self, timeout_s: float) -> bool:
        """Waits; True once the connection has ended."""

    def close(self) -> None: ...


Handler = Callable[[str, dict[str, Any]], None]
Connect = Callable[[Handler], Connection]


class Service:
    """`connect` finds or starts a sidecar and says hello, or raises Unavailable; `folders` gives the UI's folders whenever they are pushed."""

    def __init__(self, connect: Connect, folders: Callable[[], Sequence[Folder]]) -> None:
        self.facts = Facts()
        self.catalog = Catalog(self)
        self.pusher = Pusher(self)
        self.relay = Relay(self, self.facts)
        self._connect, self._folders = connect, folders
        self._connection: Connection | None = None
        self._last_error = Unavailable("PLUGIN_STARTING", "the sidecar is starting")
        self._changed = threading.Condition()
        self._handlers: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self._tries = 0
        self._ended = False

    def run_in_background(self) -> None:
        threading.Thread(target=self._keep_connected, name="refit-sidecar", daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            connection = self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.close()

    def on(self, notification: str, handler: Callable[[dict[str, Any]], None]) -> None:
        """Handlers run on the connection's thread and must be quick."""
        self._handlers.setdefault(notification, []).append(handler)

    def start(self, method: str, params: dict[str, Any], tensors: Sequence[WireTensor] = (), progress: Progress | None = None) -> Pending:
        with self._changed:
            connection = self._connection
            error = self._last_error
        if connection is None:
            raise error
        return connection.start(method, params, tensors, progress)

    def ensure(self, check: Callable[[], None]) -> None:
        """Returns when connected. Waits for a sidecar that is still starting, but not for one that could not be started."""
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            with self._changed:
                if self._connection is not None:
                    return
                if time.monotonic() > deadline or (self._tries > 1 and self._last_error.code != "PLUGIN_STARTING"):
                    raise self._last_error
                self._changed.wait(0.03)
            check()

    def push_folders(self) -> None:
        """Tells the sidecar about every folder of the UI; one that is watched already keeps its id. Raises Unavailable."""
        ids: dict[str, str] = {}
        for path, kind in self._folders():
            try:
                ids[path] = call(self, "folders.add", {"path": path, "kind": kind}, _no_check)["folder"]["id"]
            except Unavailable as error:
                # A configured folder that does not exist (yet) is ordinary in every UI.
                if error.code != "CATALOG_FOLDER_REFUSED":
                    raise
        self.catalog.folders = ids

    def _keep_connected(self) -> None:
        while not self._ended:
            try:
                connection = self._connect(self._notified)
            except Unavailable as error:
                self._set(None, error)
                self.facts.connection("missing", str(error))
                self._pause()
                continue
            self._tries = 0
            self._welcome(connection)
            while not self._ended and not connection.closed(1.0):
                pass
            self._set(None, Unavailable("PLUGIN_CONNECTION_LOST", "the connection to the sidecar was lost"))
            self.facts.connection("lost", "The connection to the sidecar was lost; trying again.")

    def _welcome(self, connection: Connection) -> None:
        self._set(connection, None)
        try:
            self.pusher.forget()
            self.push_folders()
            call(self, "events.subscribe", {"topics": TOPICS}, _no_check)
            self.facts.connection("connected", "Connected to the sidecar.")
        except Unavailable as error:
            self._set(None, error)
            connection.close()

    def _set(self, connection: Connection | None, error: Unavailable | None) -> None:
        with self._changed:
            self._connection = connection
            if error is not None:
                self._last_error = error
            self._changed.notify_all()

    def _pause(self) -> None:
        with self._changed:
            self._tries += 1
            self._changed.notify_all()
            self._changed.wait(RETRY_S[min(self._tries, len(RETRY_S)) - 1])

    def _notified(self, name: str, params: dict[str, Any]) -> None:
        if name == "event":
            self.facts.happened(params)
        for handler in self._handlers.get(name, ()):
            handler(params)


def _no_check() -> None:
    pass
