"""Adapters that arrive in a folder of a node are brought to the sidecar's inbox, where they are catalogued and reach every node."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any, Callable

from .cluster import reason
from .files import CHUNK_BYTES

log = logging.getLogger("refit_ray")

LOOK_SECONDS = 2.0


class Adapters:
    def __init__(self, folder: str, inbox: str, devices: Callable[[], list[Any]]) -> None:
        self._folder = folder
        self._inbox = Path(inbox)
        self._devices = devices
        # What was seen once may still be written; what was brought is known by name, size and time, wherever it lies.
        self._seen: dict[tuple[str, str], Any] = {}
        self._known: set[tuple[str, int, int]] = set()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            nodes = {device.node_id: device for device in self._devices() if device.problem is None}
            for node, device in nodes.items():
                try:
                    await self._look(node, device)
                except Exception as error:  # noqa: BLE001 - a node that goes away is looked at again when it is back
                    log.warning("adapters of %s could not be brought: %s", device.name, reason(error))

    async def _look(self, node: str, device: Any) -> None:
        for file in await device.handle.adapters.remote(self._folder):
            content = (file.name, file.stamp.size, file.stamp.mtime_ns)
            settled = self._seen.get((node, file.name)) == file.stamp
            self._seen[node, file.name] = file.stamp
            if settled and content not in self._known:
                await self._bring(device, file)
                self._known.add(content)

    async def _bring(self, device: Any, file: Any) -> None:
        place = self._inbox / str(device.node).replace(":", "-") / file.name
        if place.is_file() and place.stat().st_size == file.stamp.size and place.stat().st_mtime_ns == file.stamp.mtime_ns:
            return  # from an earlier run
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.part")
        with open(part, "wb") as out:
            for offset in range(0, file.stamp.size, CHUNK_BYTES):
                count = min(CHUNK_BYTES, file.stamp.size - offset)
                out.write(await device.handle.read.remote(os.path.join(self._folder, file.name), file.stamp, offset, count))
        os.utime(part, ns=(file.stamp.mtime_ns, file.stamp.mtime_ns))
        os.replace(part, place)
        log.info("%s has arrived on %s", file.name, device.node)
