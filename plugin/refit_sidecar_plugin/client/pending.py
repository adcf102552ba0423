"""A call under way. Whoever started it waits in its own thread; progress and questions of the sidecar are handled there, between waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..checked.tensor_frame import PlacedTensor
from .errors import SidecarError, SidecarInterrupted
from .frames import Tensor


class Preview(NamedTuple):
    """What the model takes for the finished pictures after a step. ``tensor``: f32 latents, or u8 colours (pictures, sizes, 3)."""

    done: int
    total: int
    tensor: Tensor


class Reply(NamedTuple):
    result: dict[str, Any]
    #: By name; ``data`` is a memoryview that belongs to the caller. A placed one lies in the range of a device segment that the call named.
    tensors: dict[str, Tensor | PlacedTensor]


#: Called with (method, params) of a notification about this call; tensors that came with it stand under ``tensors``, by name.
Notified = Callable[[str, dict[str, Any]], None]


class Pending:
    """Made by ``Session.start``. ``wait`` and ``reply`` belong to one thread; ``cancel`` may come from any."""

    def __init__(self, request: int, notified: Notified | None, cancel: Callable[[int], None]) -> None:
        self.request = request
        self._notified, self._cancel = notified, cancel
        self._woken = threading.Event()
        self._notes: deque[tuple[str, dict[str, Any]]] = deque()
        # Whoever looks slowly sees the newest; what was not looked at takes no memory.
        self._previews: deque[tuple[str, dict[str, Any]]] = deque(maxlen=1)
        self._outcome: Reply | SidecarError | None = None
        self._dropped = False

    # Called by the reading thread.

    def note(self, method: str, params: dict[str, Any]) -> None:
        if self._notified is not None and not self._dropped:
            (self._previews if method == "preview" else self._notes).append((method, params))
            self._woken.set()

    def settle(self, outcome: Reply | SidecarError) -> None:
        if not self._dropped:
            self._outcome = outcome
            self._woken.set()

    @property
    def dropped(self) -> bool:
        return self._dropped

    @property
    def settled(self) -> bool:
        """There is an outcome."""
        return self._outcome is not None

    # Called by the waiting thread.

    def wait(self, timeout_s: float) -> bool:
        """True as soon as there is an outcome. Returns early, with False, after handling a notification."""
        if self._outcome is None:
            self._woken.wait(timeout_s)
            self._woken.clear()
        for notes in (self._notes, self._previews):
            while notes and self._notified is not None:
                self._notified(*notes.popleft())
        return self._outcome is not None

    def reply(self) -> Reply:
        """The answer. Raises SidecarError when the call failed, CLIENT_INTERRUPTED when it was cancelled or has no outcome yet."""
        if isinstance(self._outcome, Reply):
            return self._outcome
        raise self._outcome or SidecarInterrupted("CLIENT_INTERRUPTED")

    def cancel(self) -> None:
        """Stops caring at once, and asks the sidecar to stop. A late answer is dropped. Never raises, never waits for the sidecar."""
        if self._outcome is None and not self._dropped:
            self._dropped = True
            self._outcome = SidecarInterrupted("CLIENT_INTERRUPTED")
            self._woken.set()
            self._cancel(self.request)
