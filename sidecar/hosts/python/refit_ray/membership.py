"""Whether the cluster that was joined is still there.

A head that comes back without its tables is another cluster at the old address: it knows none of our actors, and no process of Ray changes its cluster.
"""

from __future__ import annotations

import asyncio
from typing import Callable

from . import cluster

LOOK_SECONDS = 2.0


async def await_gpus(joined: cluster.Joined, gpus: float, seconds: float) -> cluster.Seen:
    """What the cluster has: as soon as there is room for an actor with so many GPUs, else after so long. Nodes come after their head, and the sidecar is often quicker."""
    now = asyncio.get_running_loop().time
    until = now() + seconds
    seen = joined.seen
    while seen.gpus < gpus and now() < until:
        await asyncio.sleep(LOOK_SECONDS)
        found = await asyncio.to_thread(cluster.look, joined.head)
        if isinstance(found, cluster.Seen):
            seen = found
    return seen


class Membership:
    """`serves`: whether any actor does at present. While one does, a head that is away is no reason to leave: steps need none.
    `note` is told of each look at our cluster."""

    def __init__(
        self, joined: cluster.Joined, serves: Callable[[], bool], note: Callable[[cluster.Seen], None], patience_seconds: float
    ) -> None:
        self._joined = joined
        self._serves = serves
        self._note = note
        self._patience = patience_seconds

    async def ended(self) -> str:
        """Returns why this process has to join anew."""
        now = asyncio.get_running_loop().time
        alive_at = now()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            seen = await asyncio.to_thread(cluster.look, self._joined.head)
            if isinstance(seen, cluster.Seen) or self._serves():
                alive_at = now()
            if isinstance(seen, str):
                if now() - alive_at > self._patience:
                    return seen
            elif seen.identity != self._joined.seen.identity:
                return f"another cluster answers at {self._joined.head}: its head began anew, and knows no actor of the old one"
            elif self._joined.node not in seen.nodes:
                return "the cluster has taken the sidecar's own node for dead"
            else:
                self._note(seen)
