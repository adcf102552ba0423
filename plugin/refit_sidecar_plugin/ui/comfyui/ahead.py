"""Has the engine brought to what the sampler will likely want while loaders still read and texts are encoded. The sampler's own `engine.prepare` decides; a wrong
guess is cancelled there."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import folder_paths
from server import PromptServer

from ...client import Pending, SidecarError
from ...engine import Link, StackEntry, Wanted
from ...service.catalog import Catalog
from .guess import Guess, guess
from .source import FOLDERS
from .stack_reader import adapter_path

# Seconds after which nobody waits for the answer any more.
WAIT_S = 60


@dataclass
class _Attempt:
    guess: Guess
    after: str
    last: Wanted
    dropped: bool = False
    pending: Pending | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def drop(self) -> None:
        with self.lock:
            self.dropped = True
            if self.pending is not None:
                self.pending.cancel()


class Ahead:
    """`loading`, `ran` and `settle` belong to the thread that runs nodes."""

    def __init__(self, link: Link, catalog: Catalog) -> None:
        self._link, self._catalog = link, catalog
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="refit-ahead")
        self._last: tuple[Wanted, str] | None = None
        self._prompt: object = None
        self._attempt: _Attempt | None = None

    def ran(self, wanted: Wanted, lease: str) -> None:
        """This run holds an engine now. The next prompt is guessed from it."""
        self._last = (wanted, lease)

    def loading(self) -> None:
        """A loader has begun to read an adapter. Once a prompt."""
        if self._last is None:
            return
        prompt = _running()
        if prompt is None or prompt[0] == self._prompt:
            return
        self._prompt = prompt[0]
        wanted, lease = self._last
        found = guess(prompt[1])
        if found is not None:
            self._attempt = _Attempt(found, lease, wanted)
            self._worker.submit(self._bring, self._attempt)

    def settle(self, stack: Iterable[tuple[str, float]] | None) -> None:
        """The sampler knows what it wants: names and strengths (None: not by files alone). Another guess is dropped."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None and (stack is None or _plain(attempt.guess.stack) != _plain(stack)):
            attempt.drop()

    def _bring(self, attempt: _Attempt) -> None:
        # Whatever goes wrong here is met again by the sampler, which tells it.
        with contextlib.suppress(SidecarError, OSError):
            wanted = self._wanted(attempt)
            if wanted is None:
                return
            with attempt.lock:
                if attempt.dropped:
                    return
                attempt.pending = self._link.start("engine.ahead", {**wanted.as_params(), "after": attempt.after})
            if not any(attempt.pending.wait(1.0) for _ in range(WAIT_S)):
                attempt.drop()

    def _wanted(self, attempt: _Attempt) -> Wanted | None:
        """None for another checkpoint or other settings than the last run's: an engine is not loaded on a guess."""
        last, found = attempt.last, attempt.guess
        if (found.host, found.precision) != (last.host, last.precision):
            return None
        checkpoint = next((path for folder in FOLDERS if (path := folder_paths.get_full_path(folder, found.checkpoint))), None)
        if checkpoint is None or self._catalog.id_of(checkpoint, _no_check) != last.checkpoint:
            return None
        stack = []
        for name, strength in found.stack:
            path = adapter_path(name)
            if path is None or attempt.dropped:
                return None
            stack.append(StackEntry(self._catalog.id_of(path, _no_check), strength))
        return Wanted(last.checkpoint, tuple(stack), last.host, last.precision, last.residuals)


def _running() -> tuple[object, dict] | None:
    """Number and graph of the prompt that runs, where it is the only one."""
    server = PromptServer.instance
    running = server.prompt_queue.get_current_queue_volatile()[0] if server is not None else []
    if len(running) != 1 or len(running[0]) < 3 or not isinstance(running[0][2], dict):
        return None
    return running[0][1], running[0][2]


def _plain(stack: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(name.replace(os.sep, "/"), strength) for name, strength in stack]


def _no_check() -> None: ...
