"""Progress of the sidecar's work, where the UI shows its own: the text at the preview, and the panel's line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modules import shared

from .status import Status


@contextmanager
def shown(status: Status, name: str, known: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives a function for `progress` messages (done, total, remainingMs, text). `known`: an engine served this checkpoint before, so only weights move.

    Afterwards the UI's text is as before.
    """
    before = shared.state.textinfo
    work = f"Refit: {'writing weights of' if known else 'getting an engine ready for'} {name}"

    def tell(line: str) -> None:
        shared.state.textinfo = line
        status.update(state="refitting" if known else "warming", line=line)

    def show(message: dict[str, Any]) -> None:
        done = f", {100 * message['done'] // message['total']} %" if message.get("total") else ""
        tell(f"{work}: {message.get('text') or message.get('stage', '')}{done}{_remaining(message.get('remainingMs'))}")

    tell(work)
    try:
        yield show
    finally:
        shared.state.textinfo = before


def _remaining(ms: float | None) -> str:
    return "" if ms is None else f", about {max(1, round(ms / 1000))} s left"
