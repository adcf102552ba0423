"""The way of a step's tensors over memory of the device: from the UI's tensors to the engine's inputs and back, without the processor.

Today's other ways (files in memory, frames) are always there: whatever does not work here is told once, and the step goes another way.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch

from ...client import DeviceSegment, Loan, PlacedTensor, SidecarError, SidecarInterrupted, Tensor
from ...engine import EngineRun, Lent, Link
from .device_memory import CannotOpen, Memfd, Opener, opener_of
from .tensors import from_wire, wire_dtype

# The UI owns the logging configuration; this logger only speaks.
log = logging.getLogger("refit_sidecar")
NONCE_BYTES = 32
BELL_BYTES = 4096
#: A larger one goes with its run: a ControlNet's residuals need 130 MB, a latent far less than one.
KEPT_BYTES = 16 << 20
#: An output is about as large as the largest input that is no residual, in another dtype twice that.
REPLY_FACTOR = 2
LEAST_REPLY_BYTES = 64 << 10
#: Answers after which the same tensors go another way. All others would come there too.
ANOTHER_WAY = ("WIRE_SEGMENT_STALE", "WIRE_SEGMENT_REFUSED", "WIRE_SEGMENT_SHORT", "WIRE_LEASE_UNKNOWN", "WIRE_CONDITIONING_UNKNOWN")
MOST_VIEWS = 64
_told: set[str] = set()


@dataclass
class _Opened:
    ranges: DeviceSegment
    memory: torch.Tensor
    opener: Opener
    #: Marks in the stream where the last output was copied out; made once.
    read: torch.cuda.Event | None = None
    #: One number that its host writes when an output is there; None where this process cannot look at it.
    bell: torch.Tensor | None = None
    rings: int = 0
    #: Tensors that look at it: a run's steps are all alike.
    views: dict[tuple, torch.Tensor] = field(default_factory=dict)

    def view(self, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        key = (offset, dtype, shape)
        found = self.views.get(key)
        if found is None:
            if len(self.views) >= MOST_VIEWS:
                self.views.clear()
            found = self.views[key] = _view(self.memory, offset, dtype, shape)
        return found


@dataclass
class _Slot:
    """What one connection has open; one run at a time uses it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    opened: _Opened | None = None


_slots: WeakKeyDictionary[Link, _Slot] = WeakKeyDictionary()


class _NotNow(Exception):
    """The sidecar or the host is busy with something that another way of this step waits for."""


class OnDevice:
    """Of one run."""

    def __init__(self, run: EngineRun) -> None:
        self._run = run
        self._slot = _slots.setdefault(run.link, _Slot())
        self._off = False
        # What steps of this run with inputs of these kinds answered.
        self._outputs: dict[tuple, PlacedTensor] = {}
        run.at_end(self._end)

    def step(
        self, values: Mapping[str, torch.Tensor], kept: Mapping[str, Tensor], like: torch.Tensor, residuals: frozenset[str]
    ) -> torch.Tensor | None:
        """One denoiser call: `values` by input, beside the `kept` ones that the sidecar has or gets. The output has device and dtype of `like`.
        None where the tensors have to go another way. Raises SidecarError, or whatever interrupts.
        """
        if self._off or not self._slot.lock.acquire(blocking=False):
            return None
        try:
            return self._step(values, kept, like, residuals)
        except CannotOpen as problem:
            self._refuse(str(problem))
            return None
        except _NotNow:
            return None
        except SidecarError as error:
            if error.code not in ANOTHER_WAY:
                raise
            self._drop()
            return None
        finally:
            self._slot.lock.release()

    def _step(
        self, values: Mapping[str, torch.Tensor], kept: Mapping[str, Tensor], like: torch.Tensor, residuals: frozenset[str]
    ) -> torch.Tensor | None:
        # Its room is lent until it is answered.
        self._run.collect()
        kinds = {name: wire_dtype(value.dtype) for name, value in values.items()}
        if None in kinds.values() or not values:
            return None
        sizes = [value.nbytes for value in values.values()]
        largest = max((value.nbytes for name, value in values.items() if name not in residuals), default=0)
        reply_bytes = max(LEAST_REPLY_BYTES, REPLY_FACTOR * largest)
        opened = self._opened(like.device, DeviceSegment.wanted(sizes, reply_bytes))
        room = None if opened is None else opened.ranges.lend(sizes, reply_bytes)
        if opened is None or room is None:
            return None
        offsets, reply, loan = room
        try:
            placed = self._write(opened, values, kinds, offsets)
        except BaseException:
            loan.give_back()
            raise
        alike = (opened.ranges.index, reply["offset"], *((name, value.dtype, value.shape) for name, value in values.items()))
        out = self._run.step({**placed, **kept}, frozenset(kept), self._with_bell(opened, reply, loan, alike))
        if isinstance(out, PlacedTensor):
            if len(self._outputs) >= MOST_VIEWS:
                self._outputs.clear()
            self._outputs[alike] = out
        self._run.stayed_on_device()
        return self._read(opened, out, reply, like)

    def _with_bell(self, opened: _Opened, reply: dict[str, int], loan: Loan, alike: tuple) -> Lent:
        bell = opened.bell
        if bell is None:
            return Lent(reply, loan)
        opened.rings += 1
        number = opened.rings
        # Plain memory: looking at it through torch would take longer than the look.
        seen = memoryview(bell.numpy()).cast("B").cast("q")
        return Lent({**reply, "bell": number}, loan, self._outputs.get(alike), lambda: seen[0] == number)

    def _write(
        self, opened: _Opened, values: Mapping[str, torch.Tensor], kinds: Mapping[str, str | None], offsets: list[int]
    ) -> dict[str, PlacedTensor]:
        if opened.read is not None:
            # What lies there may still be on its way out, in another stream.
            torch.cuda.current_stream(opened.memory.device).wait_event(opened.read)
        placed = {}
        for (name, value), offset in zip(values.items(), offsets, strict=True):
            if value.numel():
                opened.view(offset, value.dtype, tuple(value.shape)).copy_(value)
            placed[name] = PlacedTensor(name, kinds[name] or "", tuple(value.shape), opened.ranges.index, offset)
        opened.opener.settle()
        return placed

    def _read(self, opened: _Opened, out: Tensor | PlacedTensor, reply: Mapping[str, int], like: torch.Tensor) -> torch.Tensor:
        if isinstance(out, Tensor):
            # It did not fit, so it came as bytes.
            return (
                torch.frombuffer(bytearray(out.data), dtype=from_wire(out.dtype))
                .reshape(out.shape)
                .to(device=like.device, dtype=like.dtype)
            )
        inside = reply["offset"] <= out.offset and out.offset + out.nbytes <= reply["offset"] + reply["bytes"]
        if out.segment != opened.ranges.index or not inside:
            raise SidecarError("CLIENT_PROTOCOL", "The sidecar answered with a range of another segment than the call named.")
        value = opened.view(out.offset, from_wire(out.dtype), out.shape).to(dtype=like.dtype, copy=True)
        if value.is_cuda:
            read = opened.read = opened.read or torch.cuda.Event()
            read.record()
        return value

    def _opened(self, device: torch.device, nbytes: int) -> _Opened | None:
        """The connection's segment on that device, with room for so much. Raises CannotOpen, SidecarError."""
        opened = self._slot.opened
        if opened is not None and opened.memory.device == _whole(device) and opened.ranges.size >= nbytes:
            return opened
        self._drop()
        opener = opener_of(device)
        row, reason = self._ask(opener, nbytes)
        if row is None:
            raise CannotOpen(reason or "the engine host shares no memory")
        try:
            memory = opener.open(base64.b64decode(row["handle"]), row["bytes"])
            proof = hashlib.sha256(bytes(memory[:NONCE_BYTES].tolist())).hexdigest()
            if not self._run.confirm_segment(row["index"], proof):
                raise CannotOpen("this process and the engine host do not see the same memory")
        except BaseException:
            memory = None
            self._give_back(row["index"])
            raise
        self._slot.opened = _Opened(DeviceSegment(row["index"], row["bytes"]), memory, opener, bell=_bell(row))
        return self._slot.opened

    def _ask(self, opener: Opener, nbytes: int) -> tuple[dict | None, str]:
        try:
            return self._run.open_segment(opener.medium, opener.device, nbytes)
        except SidecarInterrupted:
            raise
        except SidecarError as error:
            if error.code == "WIRE_METHOD_UNKNOWN":
                return None, "the sidecar is older than this plugin"
            if error.code == "WIRE_SEGMENT_REFUSED":
                return None, error.message
            # A host that is being started again, a lease that has ended, no connection.
            raise _NotNow from error

    def _refuse(self, reason: str) -> None:
        self._off = True
        self._run.went_another_way(reason)
        if reason not in _told:
            _told.add(reason)
            log.info("Refit: tensors of steps go through the processor's memory: %s.", reason)

    def _drop(self) -> None:
        """Closes it here, then tells the sidecar."""
        opened, self._slot.opened = self._slot.opened, None
        if opened is None:
            return
        index = opened.ranges.index
        opened.opener.settle()
        del opened
        self._give_back(index)

    def _give_back(self, index: int) -> None:
        try:
            self._run.link.start("segments.close", {"segment": index})
        except SidecarError:
            # It has ended, and the segment with its session.
            return

    def _end(self) -> None:
        if not self._slot.lock.acquire(blocking=False):
            return
        try:
            if self._slot.opened is not None and self._slot.opened.ranges.size > KEPT_BYTES:
                self._drop()
        finally:
            self._slot.lock.release()


def _bell(row: dict) -> torch.Tensor | None:
    """Without it a step is over when its answer is here, which takes a little longer."""
    try:
        return Memfd().open(base64.b64decode(row["bell"]), BELL_BYTES) if row.get("bell") else None
    except CannotOpen:
        return None


def _whole(device: torch.device) -> torch.device:
    """ "cuda" is the current one."""
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" and device.index is None else device


def _view(memory: torch.Tensor, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    count = torch.empty(0, dtype=dtype).element_size()
    for size in shape:
        count *= size
    return memory[offset : offset + count].view(dtype).view(shape)
