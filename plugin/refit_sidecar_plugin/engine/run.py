"""One sampling run: prepare, step after step, release."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..client import CHECK_EVERY_S, Loan, Pending, PlacedTensor, Reply, SidecarError, Tensor
from .desired_state import Wanted
from .link import Link

# Different conditionings of one run (areas, schedules) that are worth keeping on the other side.
KEPT_PER_INPUT = 16
# The bell is looked at from so long before the last step's time on, for so long at most. What is looked at costs a processor for that time, and no way through the system.
LOOKS_S = 0.0005
LOOKS_LONGEST_S = 0.002
# After that it is looked at seldom, which costs next to nothing: this step takes longer than the last one.
SELDOM_S, LOOKS_SELDOM_S = 0.0005, 0.05
# An answer that follows its bell is here in a millisecond or two.
LATE_S = 0.1
# Ordinary losses: a lease that idled away, a key that newer ones pushed out. One repetition from scratch settles both.
REPEATABLE = ("WIRE_LEASE_UNKNOWN", "WIRE_CONDITIONING_UNKNOWN")


@dataclass
class RunReport:
    """What a run was like, for the status node and the pages. Times in milliseconds."""

    engine: str = ""
    host: str = ""
    precision: str = ""
    prepare_ms: float = 0.0
    refit_ms: float = 0.0
    refit_writes: int = 0
    steps: int = 0
    step_ms: float = 0.0
    engine_ms: float = 0.0
    queue_ms: float = 0.0
    #: Steps whose tensors stayed on the device.
    on_device: int = 0
    #: Why the others' did not, in words; empty where all did.
    not_on_device: str = ""
    ignored: list[str] = field(default_factory=list)
    #: Adapters of the workflow that were made for another model family, in words.
    other_family: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Lent:
    """Room in a device segment for one step: `reply` is where its output may be put, `loan` gives all of it back.

    `output` is what an equal step answered, and `rung` tells that the host has put this one's there too; None where there is no bell, or no equal step.
    """

    reply: dict[str, int]
    loan: Loan
    output: PlacedTensor | None = None
    rung: Callable[[], bool] | None = None


class EngineRun:
    """Not shared between threads. `check` is called while waiting and raises to interrupt; the call is then cancelled and its answer dropped.

    `make_room` unloads the UI's own models when the sidecar asks for device memory: bytes wanted to bytes freed.
    """

    def __init__(self, link: Link, wanted: Wanted, check: Callable[[], None], make_room: Callable[[int], int] | None = None) -> None:
        self._report = RunReport()
        self.inputs: dict[str, list[int | str]] = {}
        #: Of these, what a step may leave out.
        self.optional: frozenset[str] = frozenset()
        self.wanted = wanted
        self._link, self._check, self._make_room = link, check, make_room
        self._lease: str | None = None
        self._name = uuid.uuid4().hex[:12]
        self._kept: dict[str, list[tuple[str, Tensor, bytes]]] = {}
        self._keys = 0
        self._at_end: list[Callable[[], None]] = []
        # A step whose output was used when its bell rang; its answer is on the way.
        self._late: Pending | None = None
        self._used: PlacedTensor | None = None
        self._last_s = 0.0

    @property
    def lease(self) -> str | None:
        """Of the engine that it holds; None before it is prepared, and at its end."""
        return self._lease

    def prepare(self, progress: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Brings the engine to the wanted state. Raises SidecarError, or whatever `check` raises."""
        started = time.perf_counter()
        result = self._call("engine.prepare", self.wanted.as_params(), progress=progress).result
        self._lease = result["lease"]
        self.inputs = {port["name"]: port["shape"] for port in result["inputs"]}
        self.optional = frozenset(port["name"] for port in result["inputs"] if port.get("optional"))
        report = self._report
        report.engine, report.host, report.precision = result["engine"], result["host"], result["precision"]
        report.prepare_ms += (time.perf_counter() - started) * 1000
        report.refit_ms += result["ms"]["refit"]
        report.refit_writes += (result["refit"] or {}).get("writes", 0)
        report.ignored = [
            f"{key['key']}: {key['reason']}" for adapter in result["adapters"] for key in adapter["ignoredKeys"] + adapter["failedKeys"]
        ]

    def step(self, tensors: Mapping[str, Tensor | PlacedTensor], once: frozenset[str], lent: Lent | None = None) -> Tensor | PlacedTensor:
        """One denoiser call. Inputs named in `once` travel only when their content is new to this run. With `lent` nothing is repeated: what fails is
        for its owner, who has the tensors.
        """
        started = time.perf_counter()
        try:
            reply = self._step(tensors, once, lent)
            if reply is None:
                assert lent is not None and lent.output is not None
                self._report.steps += 1
                self._report.step_ms += (time.perf_counter() - started) * 1000
                return lent.output
        except SidecarError as error:
            if error.code not in REPEATABLE or lent is not None:
                raise
            self._kept.clear()
            if error.code == "WIRE_LEASE_UNKNOWN":
                self.prepare()
            reply = self._step(tensors, once, None)
        assert reply is not None
        report = self._report
        report.steps += 1
        report.step_ms += (time.perf_counter() - started) * 1000
        self._note(reply)
        if len(reply.tensors) != 1:
            raise SidecarError("CLIENT_PROTOCOL", f"The engine answered with {len(reply.tensors)} tensors; one was expected.")
        return next(iter(reply.tensors.values()))

    @property
    def report(self) -> RunReport:
        """So far. The answer of a step whose bell rang is a moment away; it has the last figures."""
        if self._late is not None and self._late.wait(LATE_S):
            with contextlib.suppress(SidecarError):
                self.collect()
        return self._report

    def collect(self) -> None:
        """Waits for the answer of a step whose bell rang. Its output was there and has been used: an answer that failed on its way is for the next call to find.

        Raises CLIENT_PROTOCOL when it names another output than was used, or whatever interrupts.
        """
        late, self._late = self._late, None
        if late is None:
            return
        try:
            reply = self._link.finish(late, self._check)
        except SidecarError:
            return
        self._note(reply)
        if list(reply.tensors.values()) != [self._used]:
            raise SidecarError("CLIENT_PROTOCOL", "The engine answered with another output than the one whose bell rang.")

    def stayed_on_device(self) -> None:
        self._report.on_device += 1

    def went_another_way(self, reason: str) -> None:
        self._report.not_on_device = reason

    def _note(self, reply: Reply) -> None:
        ms = reply.result["ms"]
        self._report.engine_ms += ms["run"]
        self._report.queue_ms = max(self._report.queue_ms, ms["queue"])

    @property
    def link(self) -> Link:
        """Whom the run calls. What is opened there may outlive the run."""
        return self._link

    def open_segment(self, medium: str, device: str, nbytes: int) -> tuple[dict[str, Any] | None, str]:
        """Asks for memory of the engine's device: the row of `segments.open`, or None and why there is none. Raises SidecarError."""
        wish = {"lease": self._lease, "medium": medium, "device": device, "bytes": nbytes}
        result = self._call("segments.open", wish).result
        return result["segment"], result["reason"] or ""

    def confirm_segment(self, index: int, proof: str) -> bool:
        return self._call("segments.confirm", {"segment": index, "proof": proof}).result["enabled"]

    def at_end(self, action: Callable[[], None]) -> None:
        """Called once when the run is closed."""
        self._at_end.append(action)

    def close(self) -> None:
        """Gives the engine back. Never raises and never waits: a lost lease ends by itself."""
        actions, self._at_end = self._at_end, []
        for action in actions:
            action()
        lease, self._lease = self._lease, None
        if lease is None:
            return
        keys = [key for kept in self._kept.values() for key, _, _ in kept]
        with contextlib.suppress(SidecarError):
            if keys:
                self._link.start("conditioning.drop", {"keys": keys})
            self._link.start("engine.release", {"lease": lease})

    def _step(self, tensors: Mapping[str, Tensor | PlacedTensor], once: frozenset[str], lent: Lent | None) -> Reply | None:
        """None when the bell of `lent` rang before the answer was here."""
        use: dict[str, str] = {}
        sent: list[Tensor | PlacedTensor] = []
        try:
            for name, tensor in tensors.items():
                if name in once and isinstance(tensor, Tensor):
                    use[name] = self._key_of(name, tensor)
                else:
                    sent.append(tensor)
        except BaseException:
            # Nothing has been asked for yet that could still use the room.
            if lent is not None:
                lent.loan.give_back()
            raise
        params: dict[str, Any] = {"lease": self._lease, "use": use}
        if lent is None:
            return self._call("engine.step", params, sent)
        began = time.monotonic()
        pending = self._begin("engine.step", {**params, "reply": lent.reply}, sent, lent)
        if lent.output is not None and lent.rung is not None and self._rang(pending, lent.rung, began + self._last_s):
            self._late, self._used, self._last_s = pending, lent.output, time.monotonic() - began
            return None
        reply = self._link.finish(pending, self._check)
        self._last_s = time.monotonic() - began
        return reply

    def _begin(self, method: str, params: dict[str, Any], sent: list[Tensor | PlacedTensor], lent: Lent) -> Pending:
        try:
            self._check()
        except BaseException:
            lent.loan.give_back()
            raise
        return self._link.begin(method, params, sent, make_room=self._make_room, lent=lent.loan)

    def _rang(self, pending: Pending, rung: Callable[[], bool], expected: float) -> bool:
        """Waits as for an answer until a moment before the last step would have ended, then looks at the bell. False: the answer is here, or it takes longer."""
        try:
            while not pending.settled:
                if rung():
                    return True
                left = expected - LOOKS_S - time.monotonic()
                if left > 0:
                    pending.wait(min(left, CHECK_EVERY_S))
                    self._check()
                elif left > -LOOKS_LONGEST_S:
                    time.sleep(0)
                elif left > -LOOKS_SELDOM_S:
                    pending.wait(SELDOM_S)
                else:
                    return rung()
        except BaseException:
            pending.cancel()
            raise
        return False

    def _key_of(self, name: str, tensor: Tensor) -> str:
        """The key under which the sidecar keeps this content; sends it when it is new. Compared by bytes: nobody's promise is needed."""
        kept = self._kept.setdefault(name, [])
        if kept and kept[0][1] is tensor:
            return kept[0][0]
        data = bytes(tensor.data)
        for index, (key, known, known_data) in enumerate(kept):
            if known.dtype == tensor.dtype and known.shape == tensor.shape and known_data == data:
                kept.insert(0, kept.pop(index))
                return key
        self._keys += 1
        key = f"{self._name}-{self._keys}"
        self._call("conditioning.put", {}, [Tensor(key, tensor.dtype, tensor.shape, data)])
        kept.insert(0, (key, tensor, data))
        del kept[KEPT_PER_INPUT:]
        return key

    def _call(
        self,
        method: str,
        params: dict[str, Any],
        tensors: list[Tensor | PlacedTensor] | None = None,
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Reply:
        self._check()
        return self._link.call(method, params, tensors or (), check=self._check, progress=progress, make_room=self._make_room)
