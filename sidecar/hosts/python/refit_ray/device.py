"""One actor as the sidecar sees it: a device that serves, or that is away for a reason. Ray restarts it and finds a node for it; here it is only looked at."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Callable

from .cluster import awaited, reason

log = logging.getLogger("refit_ray")

LOOK_SECONDS = 1.0
# After a look that failed.
AGAIN_SECONDS = 0.3
WAITS_SECONDS = 3.0


class Device:
    """`make` asks Ray for an actor; `tell` is called when anything here changes; `lose` when what the actor held is gone."""

    def __init__(
        self, name: str, make: Callable[[], Any], contact_seconds: float, tell: Callable[[], None], lose: Callable[["Device", str], None]
    ) -> None:
        self.name = name
        self.node: str | None = None
        self.node_id: str | None = None
        self.problem: str | None = "Ray starts the actor"
        self._make = make
        self._contact = contact_seconds
        self._tell = tell
        self._lose = lose
        self._life: str | None = None
        self._past: str | None = None
        self._wake = asyncio.Event()
        self.handle = make()

    def look(self) -> None:
        """Soon: something was wrong with a host there."""
        self._wake.set()

    def renew(self) -> None:
        """The process ends, whatever runs in it; Ray starts it anew."""
        import ray

        self._past = self._life
        self.away("the actor is being restarted")
        ray.kill(self.handle, no_restart=False)

    async def watch(self) -> None:
        import ray

        while True:
            asked = asyncio.ensure_future(awaited(self.handle.about.remote()))
            began = asyncio.get_running_loop().time()
            while not asked.done():
                await asyncio.wait({asked}, timeout=WAITS_SECONDS)
                waited = asyncio.get_running_loop().time() - began
                if not asked.done() and waited > self._contact:
                    self.away(
                        f"no word from the actor for {waited:.0f} s: it waits for a node that has room for it, or its node cannot be reached"
                    )
            try:
                about = asked.result()
            except ray.exceptions.ActorDiedError as error:
                # Ray has given it up: it could not be made, or its owner was taken for dead.
                self.away(reason(error))
                await asyncio.sleep(WAITS_SECONDS)
                self.handle = self._make()
                continue
            except Exception as error:  # noqa: BLE001 - on its way back, or its node is gone; Ray knows more
                self.away(f"the actor does not answer ({type(error).__name__})")
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if about.life == self._past:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self._there(about)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)
            except asyncio.TimeoutError:
                pass

    def _there(self, about: Any) -> None:
        if self._life is not None and about.life != self._life:
            self._lose(self, "the actor began anew")
        if (about.life, None) != (self._life, self.problem):
            self._life, self.node, self.node_id, self.problem = about.life, about.node, about.node_id, None
            self._tell()

    def away(self, problem: str) -> None:
        """No host runs there until the actor answers again."""
        was, self.problem = self.problem, problem
        if was != problem:
            self._tell()
        # Told first: whoever hears that a host has ended must not ask for the next one here.
        if was is None:
            log.info("%s is away: %s", self.name, problem)
            self._lose(self, problem)
        self._wake.set()
