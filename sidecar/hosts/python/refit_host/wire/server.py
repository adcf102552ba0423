"""Speaks JSON-RPC over frames: checks every request, runs it in its lane, answers it exactly once. It knows calls, not engines.

Two lanes: `live` (steps, commits and whatever looks at live weights, one at a time) and `work` (loads and prepares, which run
beside steps). Everything else is answered by the reading thread.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Callable, Mapping, Sequence

from ..checked.tensor_frame import PlacedTensor
from ..failure import HostFailure
from . import protocol
from .frames import Tensors, WireTensor, encode_frame, read_frame

log = logging.getLogger("refit_host")
# Tensors that travel, and outputs that were left where the call wanted them.
Answer = tuple[dict[str, Any], Sequence[WireTensor | PlacedTensor]]


@dataclass
class Call:
    """What a method may use besides its params."""

    id: int
    tensors: Tensors
    notify: Callable[[str, dict[str, Any]], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def cancelled(self) -> bool:
        return self.stop.is_set()

    def check(self) -> None:
        """Raises HOST_CANCELLED when the call was cancelled."""
        if self.stop.is_set():
            raise HostFailure("HOST_CANCELLED", "the call was cancelled; nothing live was changed")


@dataclass(frozen=True)
class Method:
    run: Callable[[Any, Call], Answer]
    lane: str  # "live", "work" or "now"


class Server:
    def __init__(self, methods: Mapping[str, Method], output: BinaryIO, translate: Callable[[BaseException], HostFailure]) -> None:
        """`translate` turns any exception into a failure (out of memory and the like)."""
        self._methods = methods
        self._output = output
        self._translate = translate
        self._writing = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._lanes = {name: ThreadPoolExecutor(1, thread_name_prefix=f"refit-{name}") for name in ("live", "work")}
        self._greeted = False
        self._ending = False

    def serve(self, source: BinaryIO) -> int:
        """Answers frames until the stream ends; returns the exit status."""
        try:
            while (frame := read_frame(source)) is not None:
                self._receive(*frame)
        except HostFailure as failure:
            self._fail(None, failure)
            return 1
        return 0

    def _receive(self, message: dict[str, Any], tensors: Tensors) -> None:
        number, name, params = message.get("id"), message.get("method"), message.get("params", {})
        whole = type(number) is int
        if not whole or message.get("jsonrpc") != "2.0" or not isinstance(name, str):
            self._fail(
                number if whole else None,
                HostFailure("HOST_INVALID_REQUEST", "expected a JSON-RPC 2.0 request with a whole number as id and a method"),
            )
            return
        try:
            self._start(number, name, params, tensors)
        except HostFailure as failure:
            self._fail(number, failure)

    def _start(self, number: int, name: str, params: Any, tensors: Tensors) -> None:
        if number in self._calls:
            raise HostFailure("HOST_INVALID_REQUEST", f"request {number} is still being answered; use every id once", {"id": number})
        method = self._methods.get(name)
        if method is None and name != "cancel":
            raise HostFailure("HOST_UNKNOWN_METHOD", f"expected one of {', '.join([*self._methods, 'cancel'])}", {"method": name[:80]})
        if self._ending:
            raise HostFailure("HOST_SHUTTING_DOWN", "this host is ending; start another")
        if not self._greeted and name != "hello":
            raise HostFailure("HOST_HELLO_REQUIRED", f"expected hello before {name}", {"method": name})
        if not isinstance(params, dict):
            raise HostFailure("HOST_INVALID_PARAMS", f"{name}: expected params as an object", {"method": name})
        if method is None:
            self._cancel(number, params)
            return
        call = Call(number, tensors, self.notify)
        self._calls[number] = call
        if name == "shutdown":
            self._ending = True
        if method.lane == "now":
            self._run(name, method, params, call)
        else:
            self._lanes[method.lane].submit(self._run, name, method, params, call)

    def _cancel(self, number: int, params: dict[str, Any]) -> None:
        target = self._calls.get(params.get("id", -1)) if type(params.get("id")) is int else None
        if target is not None:
            target.stop.set()
        self._send({"jsonrpc": "2.0", "id": number, "result": {}}, None, [])

    def _run(self, name: str, method: Method, params: dict[str, Any], call: Call) -> None:
        try:
            call.check()
            protocol.CHECKS[name](params, name)
            result, tensors = method.run(params, call)
        except Exception as error:
            self._calls.pop(call.id, None)
            self._fail(call.id, error)
            return
        self._calls.pop(call.id, None)
        if name == "hello":
            self._greeted = True
        self._send({"jsonrpc": "2.0", "id": call.id, "result": result}, "result" if tensors else None, tensors)
        if name == "shutdown":
            os._exit(0)

    def _fail(self, number: int | None, error: BaseException) -> None:
        failure = error if isinstance(error, HostFailure) else self._translate(error)
        if failure.code == "HOST_INTERNAL":
            log.error("internal error", exc_info=error)
        data = {"code": failure.code, "evidence": failure.evidence}
        self._send(
            {"jsonrpc": "2.0", "id": number, "error": {"code": protocol.ERRORS[failure.code], "message": failure.message, "data": data}},
            None,
            [],
        )

    def notify(self, name: str, params: dict[str, Any]) -> None:
        """A notification, from any thread."""
        self._send({"jsonrpc": "2.0", "method": name, "params": params}, None, [])

    def _send(self, message: dict[str, Any], slot: str | None, tensors: Sequence[WireTensor | PlacedTensor]) -> None:
        placed = [tensor for tensor in tensors if isinstance(tensor, PlacedTensor)]
        parts = encode_frame(message, slot, [tensor for tensor in tensors if isinstance(tensor, WireTensor)], placed)
        with self._writing:
            try:
                for part in parts:
                    self._output.write(part)
                self._output.flush()
            except (BrokenPipeError, ValueError):
                # The sidecar is gone: nobody is left to serve.
                os._exit(0)
