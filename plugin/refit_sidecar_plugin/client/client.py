"""The client that a plugin holds for its whole life: finds the sidecar, connects when needed, connects again after a restart."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checked.tensor_frame import PlacedTensor
from .discovery import Address, read_discovery
from .errors import SidecarError, SidecarInterrupted, SidecarUnavailable
from .frames import Tensor, TensorLike
from .pending import Notified, Pending, Preview, Reply

if TYPE_CHECKING:
    import ssl

    from .segments import Loan
    from .session import Session

#: The UI has control again within 100 ms of an interrupt.
CHECK_EVERY_S = 0.03
#: After a failed attempt the next one waits this long, so that a denoiser call without a sidecar costs nothing.
_RETRY_S = 1.0

Listener = Callable[[dict[str, Any]], None]


class SidecarClient:
    """Thread-safe. Connects at the first call. Nothing here needs torch or numpy; tensors are buffers.

    ``address`` fixes the sidecar (a remote one, with TLS); otherwise it is found through ``sidecar.json`` at every connection, because a restart
    changes port and token.
    """

    def __init__(
        self,
        name: str,
        version: str,
        data_dir: Path | None = None,
        address: Address | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._name, self._version = name, version
        self._data_dir, self._address, self._ssl_context = data_dir, address, ssl_context
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._closed = False
        self._failed_at = -_RETRY_S
        self._failure: SidecarUnavailable | None = None
        self._topics: list[str] = []
        self._listener: Listener | None = None
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._teller: threading.Thread | None = None

    def session(self) -> Session:
        """The live session, made when there is none. Raises SidecarUnavailable."""
        with self._lock:
            if self._closed:
                raise SidecarUnavailable("CLIENT_CLOSED")
            if self._session is not None and self._session.alive:
                return self._session
            if self._failure is not None and time.monotonic() - self._failed_at < _RETRY_S:
                raise self._failure.again()
            try:
                address = self._address or read_discovery(self._data_dir)
                self._session = _session_class()(address, self._name, self._version, self._notified, ssl_context=self._ssl_context)
                if self._topics:
                    self._session.start("events.subscribe", {"topics": self._topics})
            except SidecarUnavailable as error:
                self._failed_at, self._failure = time.monotonic(), error
                raise
            self._failure = None
            return self._session

    @property
    def connected(self) -> bool:
        session = self._session
        return session is not None and session.alive

    def start(
        self,
        method: str,
        params: dict[str, Any],
        tensors: Sequence[TensorLike] = (),
        notified: Notified | None = None,
        reply_bytes: int | None = None,
    ) -> Pending:
        """Sends a call without waiting. The tensors' buffers may be changed as soon as this returns."""
        return self.session().start(method, params, tensors, notified, reply_bytes)

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        tensors: Sequence[TensorLike | PlacedTensor] = (),
        check: Callable[[], object] | None = None,
        timeout_s: float | None = None,
        progress: Listener | None = None,
        make_room: Callable[[int], int] | None = None,
        preview: Callable[[Preview], object] | None = None,
        *,
        lent: Loan | None = None,
    ) -> Reply:
        """A call and its answer: ``begin``, then ``finish``. ``lent``: ranges of a device segment that the call uses.

        ``check`` is called about every 30 ms while waiting: it interrupts by raising (its exception goes on to the caller) or by returning True
        (CLIENT_INTERRUPTED); the sidecar is told, and its late answer is dropped. ``progress``, ``preview`` and ``make_room`` (bytes wanted → bytes
        freed) run in the calling thread, and interrupt by raising too. Raises SidecarError.
        """
        return self.finish(self.begin(method, params, tensors, progress, make_room, preview, lent=lent), check, timeout_s)

    def begin(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        tensors: Sequence[TensorLike | PlacedTensor] = (),
        progress: Listener | None = None,
        make_room: Callable[[int], int] | None = None,
        preview: Callable[[Preview], object] | None = None,
        *,
        lent: Loan | None = None,
    ) -> Pending:
        """The first half of ``call``: sent, and not waited for."""
        try:
            session = self.session()
        except BaseException:
            if lent is not None:
                lent.give_back()
            raise

        def notified(name: str, note: dict[str, Any]) -> None:
            if name == "progress" and progress is not None:
                progress(note)
            elif name == "preview" and preview is not None:
                preview(Preview(note["done"], note["total"], note["tensors"]["preview"]))
            elif name == "memory.wanted":
                freed = make_room(note["bytes"]) if make_room is not None else 0
                session.start("memory.freed", {"request": note["request"], "bytes": freed})

        return session.start(method, params or {}, tensors, notified, lent=lent)

    @staticmethod
    def finish(pending: Pending, check: Callable[[], object] | None = None, timeout_s: float | None = None) -> Reply:
        """The second half of ``call``: waits for the answer. Raises SidecarError, or what ``check`` and the call's own functions raise."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not pending.wait(CHECK_EVERY_S if check is not None else min(1.0, timeout_s or 1.0)):
                if check is not None and check() is True:
                    raise SidecarInterrupted("CLIENT_INTERRUPTED")
                if deadline is not None and time.monotonic() > deadline:
                    raise SidecarError("CLIENT_TIMEOUT")
        except BaseException:
            pending.cancel()
            raise
        return pending.reply()

    def sample(
        self,
        checkpoint: str,
        stack: Sequence[Mapping[str, Any]] = (),
        *,
        sampler: str,
        schedule: Mapping[str, Any],
        seeds: Sequence[int],
        positive: Mapping[str, TensorLike],
        negative: Mapping[str, TensorLike] | None = None,
        latents: Mapping[str, TensorLike] | None = None,
        check: Callable[[], object] | None = None,
        timeout_s: float | None = None,
        progress: Listener | None = None,
        preview: Callable[[Preview], object] | None = None,
        previews: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Reply:
        """Pictures in one call (``engine.sample``): the whole denoising loop on an engine. ``reply.tensors["latents"]`` is f32.

        ``positive`` and ``negative`` hold the conditioning by the names of the engine's inputs; ``latents`` may hold ``latent``, ``noise`` and ``concat``.
        ``preview`` gets what the model takes for the finished pictures while the loop runs, as ``previews`` says: ``{"kind": "rgb"}`` (the default) or
        ``{"kind": "latents"}``, with ``every``; a slow one gets fewer of them and holds nothing up. ``more`` are further params of the call (``cfg``,
        ``size``, ``prediction``, …). What a tensor is called itself does not count. Raises SidecarError.
        """
        if previews is not None and preview is None:
            raise ValueError("previews: expected preview with it, which gets them")
        named = [
            *((f"positive.{name}", tensor) for name, tensor in positive.items()),
            *((f"negative.{name}", tensor) for name, tensor in (negative or {}).items()),
            *(latents or {}).items(),
        ]
        params = {
            "checkpoint": checkpoint,
            "stack": [dict(item) for item in stack],
            "sampler": sampler,
            "schedule": dict(schedule),
            "seeds": list(seeds),
            **({} if preview is None else {"previews": dict(previews or {"kind": "rgb"})}),
            **more,
        }
        tensors = [Tensor(name, tensor.dtype, tuple(tensor.shape), tensor.data) for name, tensor in named]
        return self.call("engine.sample", params, tensors, check, timeout_s, progress, preview=preview)

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        """``listener`` gets events (``{"atMs", "at", "event"}``) and, after a gap, ``{"missed": n}``; from a thread of its own, over all reconnections."""
        with self._lock:
            self._topics, self._listener = list(topics), listener
            if self._teller is None:
                self._teller = threading.Thread(target=self._tell, name="refit-sidecar-events", daemon=True)
                self._teller.start()
            session = self._session
        if session is not None and session.alive:
            session.start("events.subscribe", {"topics": list(topics)})

    def close(self) -> None:
        """Ends the session and its leases. Idempotent."""
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()
        self._events.put(None)

    def __enter__(self) -> SidecarClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _notified(self, method: str, params: dict[str, Any]) -> None:
        if method in ("event", "events.missed"):
            self._events.put(params)

    def _tell(self) -> None:
        while (event := self._events.get()) is not None:
            listener = self._listener
            try:
                if listener is not None:
                    listener(event)
            except Exception:
                # A listener's mistake must not end the events of the others' lifetime; it is the listener's to report.
                continue


def _session_class() -> type[Session]:
    """Imported at the first connection: a UI that starts should not wait for a WebSocket library that it may never use."""
    try:
        from .session import Session
    except ImportError as error:
        raise SidecarUnavailable("CLIENT_LIBRARY_MISSING") from error
    return Session
