"""Keeps the plugin connected to a sidecar for as long as the UI runs, in one background thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from ..client import SidecarError, SidecarRefused, SidecarUnavailable
from ..engine import Link
from ..launcher import CannotStart
from .catalog import Catalog
from .facts import Facts
from .push import Pusher
from .relay import Relay

TOPICS = ["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"]
# A run waits this long for a sidecar that is being started, with the UI or after it ended, before it goes the UI's own way.
START_PATIENCE_S = 20.0
# Runs after one that waited in vain; until there is a connection again.
TRIED_PATIENCE_S = 1.0
LOOK_EVERY_S = 1.0


class Folder(NamedTuple):
    path: str
    kind: Literal["adapters", "checkpoints"]


class Session(Protocol):
    @property
    def alive(self) -> bool: ...


class Client(Link, Protocol):
    """What the service needs of SidecarClient."""

    def session(self) -> Session:
        """The live session, made when there is none. Raises SidecarUnavailable."""
        ...

    def subscribe(self, topics: Sequence[str], listener: Callable[[dict[str, Any]], None]) -> None: ...

    def close(self) -> None: ...


class Service:
    """`start_sidecar` starts one when none runs, or raises CannotStart; `folders` gives the UI's folders whenever they are pushed."""

    def __init__(self, client: Client, start_sidecar: Callable[[], None], folders: Callable[[], Sequence[Folder]]) -> None:
        self.client = client
        self.facts = Facts()
        self.catalog = Catalog(client, self.push_folders)
        self.pusher = Pusher(client)
        self.relay = Relay(client)
        self._start_sidecar, self._folders = start_sidecar, folders
        self._changed = threading.Condition()
        self._welcomed: Session | None = None
        self._trouble: SidecarError | None = None
        self._tried = self._ended = False

    def run_in_background(self) -> None:
        self.client.subscribe(TOPICS, self.facts.happened)
        threading.Thread(target=self._keep_connected, name="refit-sidecar", daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self.client.close()

    def ensure(self, check: Callable[[], None]) -> None:
        """Returns when connected and the folders are known. Waits for a sidecar that is starting, not for one that cannot be started.

        Raises SidecarError, or what `check` raises.
        """
        started = time.monotonic()
        with self._changed:
            while not self._connected():
                waited_in_vain = time.monotonic() - started > (TRIED_PATIENCE_S if self._tried else START_PATIENCE_S)
                if self._trouble is not None or waited_in_vain:
                    self._tried = self._tried or waited_in_vain
                    raise self._trouble or SidecarUnavailable("CLIENT_NOT_RUNNING")
                self._changed.notify_all()
                self._changed.wait(0.03)
                check()

    def push_folders(self) -> None:
        """Tells the sidecar about every folder of the UI; one that is watched already keeps its id. Raises SidecarError."""
        ids: dict[str, str] = {}
        for path, kind in self._folders():
            try:
                # The real folder: two UIs often share one through links, and each of its files is one file.
                ids[path] = self.client.call("folders.add", {"path": os.path.realpath(path), "kind": kind}).result["folder"]["id"]
            except SidecarRefused as error:
                # A configured folder that does not exist (yet) is ordinary in every UI.
                if error.code != "CATALOG_FOLDER_REFUSED":
                    raise
        self.catalog.folders = ids

    def _connected(self) -> bool:
        return self._welcomed is not None and self._welcomed.alive

    def _keep_connected(self) -> None:
        while not self._ended:
            if not self._connected():
                self._connect()
            with self._changed:
                self._changed.wait(LOOK_EVERY_S if self._connected() else 0.2)

    def _connect(self) -> None:
        if self._welcomed is not None and self.facts.state == "connected":
            self.facts.connection("lost", "The connection to the sidecar was lost; trying again.")
        try:
            session = self.client.session()
            self.pusher.forget()
            self.catalog.forget()
            self.push_folders()
        except SidecarUnavailable as error:
            self._without_sidecar(error)
        except SidecarError as error:
            self._set(self._welcomed, error)
            self.facts.connection("missing", str(error))
        else:
            self._set(session, None)
            self.facts.connection("connected", "Connected to the sidecar.")

    def _without_sidecar(self, error: SidecarUnavailable) -> None:
        if error.code not in ("CLIENT_NOT_RUNNING", "CLIENT_CONNECT_FAILED"):
            self._set(self._welcomed, error)
            self.facts.connection("missing", str(error))
            return
        try:
            self._start_sidecar()
        except CannotStart as reason:
            trouble = SidecarUnavailable(reason.code, f"No sidecar is running, and none can be started: {reason}.", " ")
            self._set(self._welcomed, trouble)
            self.facts.connection("missing", str(trouble))
        else:
            self._set(self._welcomed, None)
            if self.facts.state != "lost":
                self.facts.connection("starting", "The sidecar is starting.")

    def _set(self, session: Session | None, trouble: SidecarError | None) -> None:
        with self._changed:
            self._welcomed, self._trouble = session, trouble
            self._tried = self._tried and not self._connected()
            self._changed.notify_all()
