"""One WebSocket to the sidecar: the sans-I/O protocol of ``websockets`` on a blocking socket, read by one background thread.

``websockets`` ships a blocking client too; it hands every message through two more threads, which costs more than a small message's whole way
(see bench/wire-echo.mjs). The sans-I/O classes used here are the same from version 11 (what A1111 pins) to the newest.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from .errors import SidecarError, SidecarUnavailable

#: The sidecar pings every 20 s; a socket that stays silent for longer than three of them is dead.
_SILENCE_S = 75.0
_CONNECT_S = 5.0
_READ_BYTES = 256 * 1024
#: The sidecar's largest reply: SDXL-size outputs are a few MiB; this only bounds what a broken peer can make us hold.
_MAX_MESSAGE_BYTES = 1 << 30

#: Not part of the logging tree: at DEBUG the library would write the token's header into the host's log.
_SILENT = logging.Logger("refit-sidecar-websocket", level=logging.CRITICAL + 1)

_STATUS_CODES = {401: "The token is wrong.", 403: "The sidecar does not answer for this address.", 503: "The sidecar is full or ending."}


class Transport:
    """Connected when constructed. ``on_message`` and ``on_lost`` (once) are called from the reading thread."""

    def __init__(
        self,
        ws_url: str,
        token: str,
        on_message: Callable[[bytes | str], None],
        on_lost: Callable[[SidecarError], None],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._on_message, self._on_lost = on_message, on_lost
        # The protocol object is not thread-safe; sending keeps its own order, so that a long send does not hold up reading.
        self._protocol_lock, self._send_lock = threading.Lock(), threading.Lock()
        self._parts: list[bytes] = []
        self._text = False
        self._closed = False
        try:
            uri = parse_uri(ws_url)
            self._socket = _open_socket(uri.host, uri.port, ssl_context or ssl.create_default_context() if uri.secure else None)
        except (OSError, ValueError, WebSocketException) as error:
            raise SidecarUnavailable("CLIENT_CONNECT_FAILED") from _without_address(error)
        try:
            self._protocol = ClientProtocol(uri, max_size=_MAX_MESSAGE_BYTES, logger=_SILENT)
            self._handshake(token)
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(_SILENCE_S)
        self._thread = threading.Thread(target=self._read, name="refit-sidecar", daemon=True)
        self._thread.start()

    def send(self, message: bytes | bytearray, text: bool) -> None:
        """Raises CLIENT_CONNECTION_LOST. Blocks while the sidecar's side of the socket is full."""
        try:
            with self._send_lock:
                with self._protocol_lock:
                    if self._closed or self._protocol.state is not State.OPEN:
                        raise SidecarUnavailable("CLIENT_CONNECTION_LOST")
                    if text:
                        self._protocol.send_text(message)
                    else:
                        self._protocol.send_binary(message)
                    data = self._protocol.data_to_send()
                for chunk in data:
                    self._socket.sendall(chunk)
        except OSError as error:
            self._drop()
            raise SidecarUnavailable("CLIENT_CONNECTION_LOST") from _without_address(error)

    def close(self) -> None:
        """Says goodbye if it can; never raises and never waits."""
        with contextlib.suppress(Exception):
            if self._send_lock.acquire(timeout=0.2):
                try:
                    with self._protocol_lock:
                        self._protocol.send_close(1000)
                        data = self._protocol.data_to_send()
                    self._socket.settimeout(0.2)
                    for chunk in data:
                        if chunk:
                            self._socket.sendall(chunk)
                finally:
                    self._send_lock.release()
        self._drop()

    def _handshake(self, token: str) -> None:
        self._socket.settimeout(_CONNECT_S)
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        request.headers["Sec-WebSocket-Protocol"] = "refit.v1"
        self._protocol.available_subprotocols = ["refit.v1"]  # pyright: ignore[reportAttributeAccessIssue]  a plain str is what websockets sends
        self._protocol.send_request(request)
        try:
            for chunk in self._protocol.data_to_send():
                self._socket.sendall(chunk)
            while self._protocol.state is State.CONNECTING:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    self._protocol.receive_eof()
                    break
                self._protocol.receive_data(data)
                if self._protocol.handshake_exc is not None:
                    break
        except OSError as error:
            raise SidecarUnavailable("CLIENT_CONNECT_FAILED") from _without_address(error)
        if self._protocol.state is not State.OPEN:
            raise _refusal(self._protocol)

    def _read(self) -> None:
        lost = SidecarUnavailable("CLIENT_CONNECTION_LOST")
        try:
            # The handshake may have brought the first messages along.
            self._tell()
            ended = False
            while not ended:
                data = self._socket.recv(_READ_BYTES)
                with self._protocol_lock:
                    if data:
                        self._protocol.receive_data(data)
                    else:
                        self._protocol.receive_eof()
                    ended = not data or self._protocol.close_expected()
                # Before anything else: an answer may have come in one piece with the goodbye.
                self._tell()
                self._flush()
        except SidecarError as error:
            lost = error if isinstance(error, SidecarUnavailable) else SidecarUnavailable(error.code, error.message, error.remedy)
        except Exception:
            # A dead socket, or a peer that is no WebSocket server: whatever it was, the connection is over.
            pass
        finally:
            self._drop()
            self._on_lost(lost)

    def _tell(self) -> None:
        """Hands on whole messages that have arrived."""
        with self._protocol_lock:
            events = self._protocol.events_received()
        for event in events:
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if event.opcode is not Opcode.CONT:
                self._text = event.opcode is Opcode.TEXT
            if event.fin and not self._parts:
                whole = event.data
            else:
                self._parts.append(bytes(event.data))
                if not event.fin:
                    continue
                whole = b"".join(self._parts)
                self._parts.clear()
            self._on_message(bytes(whole).decode() if self._text else bytes(whole))

    def _flush(self) -> None:
        """Sends what the protocol itself has to say (pongs, the close frame)."""
        with self._protocol_lock:
            data = self._protocol.data_to_send()
        if any(data):
            with self._send_lock:
                for chunk in data:
                    if chunk:
                        self._socket.sendall(chunk)

    def _drop(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._socket.close()


def _open_socket(host: str, port: int, ssl_context: ssl.SSLContext | None) -> socket.socket:
    opened = socket.create_connection((host, port), timeout=_CONNECT_S)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened if ssl_context is None else ssl_context.wrap_socket(opened, server_hostname=host)
    except BaseException:
        opened.close()
        raise


def _refusal(protocol: ClientProtocol) -> SidecarUnavailable:
    error = protocol.handshake_exc
    response = getattr(error, "response", None) if isinstance(error, InvalidHandshake) else None
    status = getattr(response, "status_code", None) or getattr(error, "status_code", None)
    return SidecarUnavailable("CLIENT_REFUSED", f"The sidecar refused the connection. {_STATUS_CODES.get(status or 0, '')}".strip())


def _without_address(error: BaseException) -> BaseException:
    """The cause of an error as a class name only: texts of the system hold addresses and paths."""
    return RuntimeError(type(error).__name__)
