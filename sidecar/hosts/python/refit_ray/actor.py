"""The Ray actor: hosts of one device. It serves the gateway that it last heard of; without word of it for too long every host ends, so that nothing serves on behind a split."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from .files import FileServer, Mode, NodeFiles, Source, SourceAway, Stamp, cache_folder
from .session import Answer, Heard, Session, SessionEnded

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class About:
    """`life`: another one means that the actor began anew, and knows nothing of what was before."""

    life: str
    node: str
    node_id: str
    pid: int


@dataclass(frozen=True)
class NodeFile:
    name: str
    stamp: Stamp


class EngineActor:
    def __init__(self, mode: Mode, files: Any, files_node: str, contact_seconds: float) -> None:
        context = ray.get_runtime_context()
        self._life = secrets.token_hex(8)
        self._node_id = context.get_node_id()
        self._contact = contact_seconds
        self._sessions: dict[str, Session] = {}

        def read(path: str, stamp: Stamp, offset: int, count: int) -> Any:
            coming = files.read.remote(path, stamp, offset, count)
            return lambda: _got(coming)

        def facts(path: str, seconds: float | None) -> Any:
            return _got(files.facts.remote(path), seconds)

        source = Source(facts, read, self._node_id == files_node)
        self._files = NodeFiles(mode, source, cache_folder(self._node_id))
        self._own = FileServer()
        self._watching: asyncio.Task[None] | None = None

    async def about(self) -> About:
        self._watching = self._watching or asyncio.create_task(self._watch())
        return About(self._life, ray.util.get_node_ip_address(), self._node_id, os.getpid())

    async def open(self, session: str, command: list[str], env: dict[str, str]) -> int:
        """Raises OSError where the node lacks the program."""
        if os.path.isabs(command[0]) and not os.path.exists(command[0]):
            raise FileNotFoundError(f"this node has no {command[0]}: use the same image, or the same paths, on every node")
        started = Session(self._files.localise)
        self._sessions[session] = started
        try:
            return await started.start(command, env)
        except OSError:
            del self._sessions[session]
            raise

    async def call(self, session: str, frame: bytes) -> Answer:
        """Raises SessionEnded."""
        return await self._find(session).call(frame)

    async def hear(self, session: str, seconds: float) -> Heard:
        """Raises SessionEnded for one that this life of the actor has never had."""
        heard = await self._find(session).hear(seconds)
        if heard.ended is not None:
            self._sessions.pop(session, None)
        return heard

    async def close(self, session: str) -> None:
        known = self._sessions.pop(session, None)
        if known is not None:
            known.end("it was ended by the sidecar")

    async def adapters(self, folder: str) -> list[NodeFile]:
        """Adapters in that folder of this node, below it too. Empty where there is no such folder."""
        return await asyncio.to_thread(_adapters, Path(folder))

    async def read(self, path: str, stamp: Stamp, offset: int, count: int) -> bytes:
        return await asyncio.to_thread(self._own.read, path, stamp, offset, count)

    def _find(self, session: str) -> Session:
        known = self._sessions.get(session)
        if known is None:
            raise SessionEnded("the actor began anew, or has ended the host")
        return known

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for session, known in list(self._sessions.items()):
                if time.monotonic() - known.heard_at > self._contact:
                    known.end("there was no word from the gateway")
                    del self._sessions[session]


def _got(coming: Any, seconds: float | None = None) -> Any:
    """The answer, or what the file server raised. `seconds`: None waits until Ray gives up.

    Raises SourceAway for a file server that is gone: this actor is well, and so are the weights that it serves.
    """
    try:
        return ray.get(coming, timeout=seconds)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise SourceAway(type(error).__name__) from error


def _adapters(folder: Path) -> list[NodeFile]:
    found: list[NodeFile] = []
    for path in sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []:
        try:
            found.append(NodeFile(str(path.relative_to(folder)), Stamp.of(str(path))))
        except OSError:
            continue  # gone since it was listed
    return found
