"""The gateway: channels of the sidecar on one side, actors on the other. Bytes of a host's channel are handed on as they are; only channel 0 is ours."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from typing import Any, Callable, Coroutine, Mapping

from refit_host.failure import HostFailure

from . import cluster, protocol
from .adapters import Adapters
from .channels import Writer, pipe_reader, read_piece
from .device import Device
from .figures import Figures
from .membership import Membership, await_gpus

log = logging.getLogger("refit_ray")

# Without an answer for so long, contact with an actor counts as lost; the actor counts for itself.
CONTACT_SECONDS = float(os.environ.get("REFIT_RAY_CONTACT_SECONDS", "15"))
# A host that says nothing is asked anew after this.
HEAR_SECONDS = 2.0
FIGURES_SECONDS = 2.0
# Ray itself gives up after a minute where this computer has no node of the cluster yet.
JOIN_SECONDS = 90.0
# For the first node with a card, where actors are counted by cards.
FIRST_GPU_SECONDS = 60.0


class Link:
    """A host in an actor, and the channel that it is on."""

    def __init__(self, channel: int, device: Device) -> None:
        self.channel = channel
        self.device = device
        self.session = secrets.token_hex(8)
        self.handle = device.handle


class Gateway:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._devices: dict[str, Device] = {}
        self._links: dict[int, Link] = {}
        self._figures = Figures()
        self._tasks: set[asyncio.Task[None]] = set()
        # Set once: the cluster is another one now, or gone. Only a new process can join again.
        self.left = asyncio.Event()
        self._methods: dict[str, Callable[[Any], Coroutine[Any, Any, Mapping[str, Any]]]] = {
            "join": self._join, "open": self._open, "close": self._close, "renew": self._renew,
        }  # fmt: skip

    def take(self, channel: int, piece: bytes) -> None:
        """A piece of the sidecar's. Calls reach an actor in the order in which they came."""
        if channel == 0:
            self._start(self._control(json.loads(piece)))
            return
        link = self._links.get(channel)
        if link is None:
            return  # its end has been told
        began = time.perf_counter()
        self._start(self._carry(link, link.handle.call.remote(link.session, piece), began))

    async def _carry(self, link: Link, coming: Any, began: float) -> None:
        try:
            answer = await coming
        except Exception as error:  # noqa: BLE001 - whatever became of the actor, nothing more is believed of this host
            self._failed(link, error)
            return
        # The host was given up meanwhile, and its calls were computed elsewhere: one answer is enough.
        if self._links.get(link.channel) is not link:
            return
        self._writer.write(link.channel, answer.frame)
        if answer.is_step:
            self._figures.note((time.perf_counter() - began) * 1000 - answer.inside_ms)

    async def _control(self, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message.get("id")}
        method, params = message.get("method"), message.get("params")
        try:
            if method not in self._methods:
                raise HostFailure(
                    "HOST_GATEWAY", f"expected one of {', '.join(self._methods)}, got {str(method)[:80]!r}; update the older side"
                )
            protocol.CHECKS[method](params, method)
            reply["result"] = await self._methods[method](params)
        except HostFailure as failure:
            reply["error"] = {"code": failure.code, "message": failure.message}
        except Exception as error:  # noqa: BLE001 - told to the sidecar, which decides what becomes of it
            log.exception("%s failed", method)
            reply["error"] = {"code": "HOST_GATEWAY", "message": cluster.reason(error)}
        self._tell(reply)

    def _tell(self, message: dict[str, Any]) -> None:
        self._writer.write(0, json.dumps(message).encode())

    def _notify(self, method: str, params: Mapping[str, Any]) -> None:
        self._tell({"jsonrpc": "2.0", "method": method, "params": params})

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the gateway failed", exc_info=task.exception())

    async def _join(self, given: protocol.JoinParams) -> protocol.JoinResult:
        if given["protocolVersion"] != protocol.PROTOCOL_VERSION:
            raise HostFailure(
                "HOST_GATEWAY",
                f"expected version {protocol.PROTOCOL_VERSION} of the gateway's protocol, got {given['protocolVersion']}; update the older side",
            )
        if given["actors"] == 0 and given["gpus"] == 0:
            raise HostFailure("OPTIONS_INVALID", "--ray-gpus 0 needs a number of actors; name it with --ray-actors")
        try:
            joined = await asyncio.wait_for(asyncio.to_thread(cluster.join, given["address"]), JOIN_SECONDS)
        except asyncio.TimeoutError as error:
            raise HostFailure(
                "HOST_RAY_UNREACHABLE", f"the Ray cluster at {given['address']} did not let us in for {JOIN_SECONDS:g} s"
            ) from error
        files = cluster.file_server(joined.node)

        def make() -> Any:
            return cluster.new_actor(given["gpus"], given["cpus"], given["files"], files, joined.node, CONTACT_SECONDS)

        def add(count: int) -> None:
            for index in range(len(self._devices), count):
                device = Device(f"ray:{index}", make, CONTACT_SECONDS, lambda: self._tell_devices(), self._lose)
                self._devices[device.name] = device
                self._start(device.watch())

        def grow(seen: cluster.Seen) -> None:
            """One actor for each share of GPUs, as nodes come. Actors of nodes that go wait for others."""
            before = len(self._devices)
            add(int(seen.gpus / given["gpus"]))
            if len(self._devices) > before:
                self._tell_devices()

        gpus = joined.seen.gpus if given["actors"] else (await await_gpus(joined, given["gpus"], FIRST_GPU_SECONDS)).gpus
        add(given["actors"] or int(gpus / given["gpus"]))
        if not self._devices:
            raise HostFailure(
                "OPTIONS_INVALID",
                f"the cluster has {gpus:g} GPUs, none for an actor of {given['gpus']:g}; name a number with --ray-actors (and --ray-gpus 0 for processors)",
            )
        if given["adapters"] is not None and given["inbox"] is not None:
            self._start(Adapters(given["adapters"], given["inbox"], lambda: list(self._devices.values())).watch())
        self._start(self._tell_figures())
        self._start(self._leave_with(Membership(joined, self._serves, grow if given["actors"] == 0 else lambda _: None, CONTACT_SECONDS)))
        return {"version": joined.version, "devices": self._places()}

    def _serves(self) -> bool:
        return any(device.problem is None for device in self._devices.values())

    async def _leave_with(self, membership: Membership) -> None:
        reason = await membership.ended()
        log.warning("the cluster is left: %s", reason)
        self._notify("left", protocol.LeftNotification(reason=reason))
        self.left.set()

    async def _open(self, given: protocol.OpenParams) -> protocol.OpenResult:
        device = self._find(given["device"])
        if device.problem is not None:
            raise HostFailure("HOST_START_FAILED", device.problem)
        link = Link(given["channel"], device)
        try:
            pid = await link.handle.open.remote(link.session, given["command"], given["env"])
        except Exception as error:  # noqa: BLE001 - the actor's own words
            if cluster.is_loss(error):
                device.away(cluster.reason(error))
            raise HostFailure("HOST_START_FAILED", cluster.reason(error)) from error
        self._links[link.channel] = link
        self._start(self._hear(link))
        return {"pid": pid, "node": device.node or ""}

    async def _close(self, given: protocol.CloseParams) -> protocol.CloseResult:
        link = self._links.pop(given["channel"], None)
        if link is not None:
            link.handle.close.remote(link.session)
        return {}

    async def _renew(self, given: protocol.RenewParams) -> protocol.RenewResult:
        self._find(given["device"]).renew()
        return {}

    async def _hear(self, link: Link) -> None:
        """What a host says by itself; and how contact with its actor is held."""
        while self._links.get(link.channel) is link:
            coming = asyncio.ensure_future(cluster.awaited(link.handle.hear.remote(link.session, HEAR_SECONDS)))
            done, _ = await asyncio.wait({coming}, timeout=CONTACT_SECONDS)
            if not done:
                coming.cancel()
                reason = f"contact with its actor was lost: no word for {CONTACT_SECONDS:g} s"
                link.device.away(reason)
                self._end(link, reason)
                return
            try:
                heard = coming.result()
            except Exception as error:  # noqa: BLE001 - as with a call
                self._failed(link, error)
                return
            if self._links.get(link.channel) is not link:
                return
            for line in heard.lines:
                self._notify("line", protocol.LineNotification(channel=link.channel, text=line[:2000]))
            for frame in heard.frames:
                self._writer.write(link.channel, frame)
            if heard.ended is not None:
                self._end(link, heard.ended)

    def _failed(self, link: Link, error: Exception) -> None:
        if cluster.is_loss(error):
            link.device.away(cluster.reason(error))
        self._end(link, cluster.reason(error))

    def _end(self, link: Link, reason: str) -> None:
        """Nothing of that host is handed on any more."""
        if self._links.get(link.channel) is not link:
            return
        del self._links[link.channel]
        self._notify("ended", protocol.EndedNotification(channel=link.channel, reason=reason))
        # Should it live on behind a split, it ends by itself; one that hears this ends now.
        link.handle.close.remote(link.session)
        link.device.look()

    def _lose(self, device: Device, reason: str) -> None:
        for link in [link for link in self._links.values() if link.device is device]:
            self._end(link, reason)

    def _find(self, name: str) -> Device:
        device = self._devices.get(name)
        if device is None:
            raise HostFailure("HOST_START_FAILED", f"expected the name of an actor, got {name[:80]!r}")
        return device

    def _places(self) -> list[protocol.Place]:
        return [protocol.Place(name=device.name, node=device.node, problem=device.problem) for device in self._devices.values()]

    def _tell_devices(self) -> None:
        self._notify("devices", protocol.DevicesNotification(devices=self._places()))

    async def _tell_figures(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(FIGURES_SECONDS)
            if self._figures.steps != told:
                told = self._figures.steps
                self._notify("figures", self._figures.row())


async def serve(stdin: int, stdout: int) -> None:
    """Until stdin ends, or the cluster: actors that nobody asks for any more end with this process."""
    reader = await pipe_reader(stdin)
    writer = Writer(stdout)
    gateway = Gateway(writer)

    async def read() -> None:
        while (piece := await read_piece(reader)) is not None:
            gateway.take(*piece)

    reading, leaving = asyncio.create_task(read()), asyncio.create_task(gateway.left.wait())
    await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
    if reading.done() and (error := reading.exception()) is not None:
        log.error("the sidecar's pipe cannot be read: %s", cluster.reason(error))
    await asyncio.to_thread(writer.finish, 5)
