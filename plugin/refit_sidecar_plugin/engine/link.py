"""What a run needs of the client. SidecarClient has it; tests use small fakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..client import Loan, Pending, PlacedTensor, Reply, TensorLike


class Link(Protocol):
    def start(self, method: str, params: dict[str, Any], tensors: Sequence[TensorLike] = ()) -> Pending:
        """Sends a call without waiting. Raises SidecarUnavailable when there is no connection."""
        ...

    def begin(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        tensors: Sequence[TensorLike | PlacedTensor] = (),
        progress: Callable[[dict[str, Any]], None] | None = None,
        make_room: Callable[[int], int] | None = None,
        *,
        lent: Loan | None = None,
    ) -> Pending:
        """The first half of `call`."""
        ...

    def finish(self, pending: Pending, check: Callable[[], object] | None = None) -> Reply:
        """The second half of `call`. Raises SidecarError."""
        ...

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        tensors: Sequence[TensorLike | PlacedTensor] = (),
        check: Callable[[], object] | None = None,
        timeout_s: float | None = None,
        progress: Callable[[dict[str, Any]], None] | None = None,
        make_room: Callable[[int], int] | None = None,
        *,
        lent: Loan | None = None,
    ) -> Reply:
        """A call and its answer. `check` interrupts by raising; `lent`: ranges of a device segment that it uses. Raises SidecarError."""
        ...
