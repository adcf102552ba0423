"""One engine host in an actor: a child process that speaks the host protocol, and the calls that wait for its answers."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable

from refit_host.failure import HostFailure
from refit_host.wire.protocol import ERRORS

from .frames import message_of, read_frame, with_message

# A host that talks faster than it is heard loses its oldest lines, never an answer.
MAX_LINES = 500
MAX_LINE = 2000


class SessionEnded(Exception):
    pass


@dataclass(frozen=True)
class Answer:
    """`inside_ms`: what the host took, from its pipe to its pipe."""

    frame: bytes
    inside_ms: float
    is_step: bool


@dataclass
class Heard:
    """What a host said that answers no call. `ended`: why nothing more will come."""

    frames: list[bytes] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    ended: str | None = None


class Session:
    """`localise`: params of a call with the places that this node has; runs in a thread."""

    def __init__(self, localise: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._localise = localise
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._frames: list[bytes] = []
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._news = asyncio.Event()
        self._ended: str | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.heard_at = time.monotonic()

    async def start(self, command: list[str], env: dict[str, str]) -> int:
        """Raises OSError."""
        # The node's own environment: Ray has set there which GPUs are the actor's.
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **env},
            limit=1 << 24,
        )
        self._tasks = [asyncio.create_task(self._answers()), asyncio.create_task(self._log())]
        return self._process.pid

    async def call(self, frame: bytes) -> Answer:
        """Raises SessionEnded."""
        message = message_of(frame)
        method, number = message.get("method"), message.get("id")
        if method in ("load", "prepare"):
            try:
                params = await asyncio.to_thread(self._localise, message["params"])
            except HostFailure as failure:
                return Answer(_refusal(frame, number, failure), 0, False)
            if params is not message["params"]:
                frame = with_message(frame, {**message, "params": params})
        process = self._process
        if self._ended is not None or process is None or process.stdin is None:
            raise SessionEnded(self._ended or "it was not started")
        began = time.perf_counter()
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[int(number or 0)] = answered
        process.stdin.write(frame)
        return Answer(await answered, (time.perf_counter() - began) * 1000, method == "step")

    async def hear(self, seconds: float) -> Heard:
        """What the host said since it was last heard; waits for something for at most so long."""
        self.heard_at = time.monotonic()
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except asyncio.TimeoutError:
            pass  # nothing was said: that too is word of the actor
        self._news.clear()
        self.heard_at = time.monotonic()
        heard = Heard(self._frames, list(self._lines), self._ended)
        self._frames = []
        self._lines.clear()
        return heard

    def end(self, reason: str) -> None:
        """Nothing is answered from now on, and the host ends."""
        if self._ended is not None:
            return
        self._ended = reason
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(SessionEnded(reason))
        self._waiting.clear()
        self._news.set()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _answers(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None
        try:
            while (frame := await read_frame(process.stdout)) is not None:
                message = message_of(frame)
                number = message.get("id")
                answered = self._waiting.pop(number, None) if isinstance(number, int) and "method" not in message else None
                if answered is None:
                    self._frames.append(frame)
                    self._news.set()
                elif not answered.done():
                    answered.set_result(frame)
        except ValueError as error:
            self.end(f"it wrote bytes that are not a frame ({error})")
        code = await process.wait()
        await asyncio.wait(self._tasks[1:], timeout=1)
        self.end(f"exit code {code}" if code >= 0 else f"signal {-code}")

    async def _log(self) -> None:
        process = self._process
        assert process is not None and process.stderr is not None
        rest = b""
        while chunk := await process.stderr.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-MAX_LINE:]
            self._lines.extend(line[:MAX_LINE].decode("utf-8", "replace") for line in lines)
            self._news.set()


def _refusal(frame: bytes, number: Any, failure: HostFailure) -> bytes:
    error = {"code": ERRORS[failure.code], "message": failure.message, "data": {"code": failure.code, "evidence": {}}}
    answer = with_message(frame, {"jsonrpc": "2.0", "id": number, "error": error})
    return answer
