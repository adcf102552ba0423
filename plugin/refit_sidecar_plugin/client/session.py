"""One session: hello, calls, notifications. It ends with its connection; ``client.SidecarClient`` makes the next one."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..checked.tensor_frame import PlacedTensor, byte_count
from ..messages import METHODS, PROTOCOL_VERSION, HelloResult
from .discovery import Address
from .errors import SidecarError, SidecarUnavailable, from_reply
from .frames import Tensor, TensorLike, decode_frame, descriptors, dump, encode_frame, load
from .pending import Notified, Pending, Reply
from .segments import Loan, Segments
from .transport import Transport

#: Sparse files: only what is written takes memory. Requests carry ControlNet residuals (SDXL at 1024², batch 2, fp16: 107 MB).
_REQUEST_BYTES = 256 << 20
_REPLY_BYTES = 64 << 20
_HELLO_S = 10.0
#: Indices above it are device segments: only who opened one sees what lies there.
_LAST_OF_HELLO = 1
#: A reply range for a method that answers with tensors: outputs are about as large as the largest input, twice that in another dtype.
_REPLY_FACTOR = 2
_LEAST_REPLY_BYTES = 64 * 1024


class Session:
    """Thread-safe. ``on_notification`` gets notifications that belong to no call (events), from the reading thread."""

    def __init__(
        self,
        address: Address,
        name: str,
        version: str,
        on_notification: Callable[[str, dict[str, Any]], None],
        capabilities: Sequence[str] = ("segments", "events", "push", "memory"),
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._on_notification = on_notification
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[Pending, list[Loan]]] = {}
        self._last_id = 0
        self._lost: SidecarError | None = None
        self._segments: Segments | None = None
        self._transport = Transport(address.ws_url, address.token, self._received, self._connection_lost, ssl_context)
        try:
            self.hello: HelloResult = self._greet(name, version, list(capabilities))
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._lost is None

    @property
    def uses_segments(self) -> bool:
        return self._segments is not None

    def start(
        self,
        method: str,
        params: dict[str, Any],
        tensors: Sequence[TensorLike | PlacedTensor] = (),
        notified: Notified | None = None,
        reply_bytes: int | None = None,
        lent: Loan | None = None,
    ) -> Pending:
        """Sends a call. ``notified`` hears of its progress while somebody waits. ``lent``: ranges of a device segment, given back when it is answered.
        Raises CLIENT_CONNECTION_LOST.
        """
        with self._lock:
            if self._lost is not None:
                if lent is not None:
                    lent.give_back()
                raise self._lost.again()
            self._last_id += 1
            request = self._last_id
        pending = Pending(request, notified, self._cancel)
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": request, "method": method, "params": params}
        loans = [] if lent is None else [lent]
        placed = [tensor for tensor in tensors if isinstance(tensor, PlacedTensor)]
        sent = [tensor for tensor in tensors if not isinstance(tensor, PlacedTensor)]
        rows = [one.row() for one in placed]
        if sent and self._segments is not None:
            written = self._segments.put(sent, 0 if "reply" in params else self._room_for_reply(method, sent, reply_bytes))
            if written is not None:
                more, reply, loan = written
                rows, sent = [*rows, *more], []
                loans.append(loan)
                params = params if reply is None else {**params, "reply": reply}
        message["params"] = {**params, "tensors": rows} if rows and not sent else params
        with self._lock:
            self._waiting[request] = (pending, loans)
        try:
            if sent:
                self._transport.send(encode_frame(message, sent, placed), text=False)
            else:
                self._transport.send(dump(message), text=True)
        except BaseException:
            self._forget(request)
            raise
        return pending

    def close(self) -> None:
        self._connection_lost(SidecarUnavailable("CLIENT_CLOSED"))
        self._transport.close()

    def _room_for_reply(self, method: str, tensors: Sequence[TensorLike], wanted: int | None) -> int:
        known = METHODS.get(method)
        if known is None or known.tensors not in ("out", "both"):
            return 0
        if wanted is not None:
            return wanted
        return max(_LEAST_REPLY_BYTES, _REPLY_FACTOR * max(byte_count(tensor.dtype, tensor.shape) for tensor in tensors))

    def _greet(self, name: str, version: str, capabilities: list[str]) -> HelloResult:
        params = {
            "protocolVersions": [PROTOCOL_VERSION],
            "client": {"name": name, "version": version},
            "capabilities": capabilities,
            "segments": {"requestBytes": _REQUEST_BYTES, "replyBytes": _REPLY_BYTES},
        }
        hello: Any = self._wait("hello", params)
        offered = hello.get("segments")
        if offered is not None:
            # Not visible from here (a container, another computer): tensors travel in frames.
            with contextlib.suppress(OSError, SidecarError, KeyError, TypeError):
                segments = Segments(offered["request"], offered["reply"])
                if self._wait("segments.confirm", {"proof": segments.proof()})["enabled"]:
                    self._segments = segments
                else:
                    segments.close()
        return hello

    def _wait(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        pending = self.start(method, params)
        if not pending.wait(_HELLO_S):
            raise SidecarUnavailable("CLIENT_TIMEOUT")
        return pending.reply().result

    def _cancel(self, request: int) -> None:
        # Its ranges stay lent until the sidecar answers the cancelled call.
        with contextlib.suppress(SidecarError):
            self.start("cancel", {"request": request})

    def _forget(self, request: int) -> Pending | None:
        with self._lock:
            pending, loans = self._waiting.pop(request, (None, ()))
        for loan in loans:
            loan.give_back()
        return pending

    def _received(self, data: bytes | str) -> None:
        """From the reading thread. Raises CLIENT_PROTOCOL, which ends the connection."""
        if isinstance(data, str):
            message, tensors = load(data), []
        else:
            message, tensors = decode_frame(data)
        method = message.get("method")
        params = message.get("params")
        if isinstance(method, str):
            params = params if isinstance(params, dict) else {}
            self._notified(method, {**params, "tensors": {tensor.name: tensor for tensor in tensors}} if tensors else params)
            return
        request = message.get("id")
        if type(request) is not int:
            # The sidecar could not read a message of ours; the call that it belonged to will time out or be cancelled.
            raise SidecarError("CLIENT_PROTOCOL", "The sidecar could not read a message of this client.")
        with self._lock:
            waiting = self._waiting.get(request)
        if waiting is None:
            return
        outcome = self._outcome(message, tensors, waiting[0])
        self._forget(request)
        waiting[0].settle(outcome)

    def _outcome(self, message: dict[str, Any], tensors: list[Tensor], pending: Pending) -> Reply | SidecarError:
        if "error" in message:
            return from_reply(message["error"])
        result = message.get("result")
        if not isinstance(result, dict):
            return SidecarError("CLIENT_PROTOCOL", "The sidecar answered without a result.")
        found: dict[str, Tensor | PlacedTensor] = {tensor.name: tensor for tensor in tensors}
        if not pending.dropped:
            for row in descriptors(message):
                if row.get("segment", 0) > _LAST_OF_HELLO:
                    found[row["name"]] = PlacedTensor(row["name"], row["dtype"], tuple(row["shape"]), row["segment"], row["offset"])
                elif row.get("segment") is not None:
                    if self._segments is None:
                        raise SidecarError("CLIENT_PROTOCOL", "The sidecar answered into a segment that this session does not have.")
                    found[row["name"]] = self._segments.get(row)
        return Reply(result, found)

    def _notified(self, method: str, params: dict[str, Any]) -> None:
        request = params.get("request")
        if method in ("progress", "preview", "memory.wanted") and type(request) is int:
            with self._lock:
                waiting = self._waiting.get(request)
            if waiting is not None:
                waiting[0].note(method, params)
            return
        self._on_notification(method, params)

    def _connection_lost(self, error: SidecarError) -> None:
        with self._lock:
            if self._lost is not None:
                return
            self._lost = error
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for pending, loans in waiting:
            pending.settle(error.again())
            for loan in loans:
                loan.give_back()
        # Nobody else holds the files: calls that were about to write into them fail with the connection.
        segments, self._segments = self._segments, None
        if segments is not None:
            segments.close()
