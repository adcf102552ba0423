"""What a run needs of a connection. The client implements it; tests use small fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from .wire_tensor import WireTensor


class Unavailable(Exception):
    """The engine cannot serve now. `code` is the wire's, or PLUGIN_*; the text says what happened and what to do."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Reply(NamedTuple):
    result: dict[str, Any]
    tensors: dict[str, WireTensor]


Progress = Callable[[dict[str, Any]], None]


class Pending(Protocol):
    """A call under way."""

    def wait(self, timeout_s: float) -> bool:
        """True as soon as there is an answer."""

    def reply(self) -> Reply:
        """Raises Unavailable."""

    def cancel(self) -> None:
        """Asks the sidecar to stop; a late answer is dropped."""


class Link(Protocol):
    def start(self, method: str, params: dict[str, Any], tensors: Sequence[WireTensor] = (), progress: Progress | None = None) -> Pending:
        """Raises Unavailable when there is no connection."""
