"""Progress of the sidecar's work on the node that is running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.utils
from comfy_execution.utils import get_executing_context
from server import PromptServer

# Work that is over sooner shows nothing: a refit takes milliseconds.
_STEPS = 1000


def current_node() -> str | None:
    """Of this thread. The server's own note is made for prompts of pages only, not for those that a script sends."""
    context = get_executing_context()
    if context is not None:
        return context.node_id
    server = PromptServer.instance
    return getattr(server, "last_node_id", None) if server else None


@contextmanager
def node_progress(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives a function for the sidecar's `progress` messages (stage, done, total, remainingMs, text). It may be called from any thread."""
    bar: Any = None
    node = current_node()

    def show(message: dict[str, Any]) -> None:
        nonlocal bar
        if not message.get("total"):
            return
        bar = bar or comfy.utils.ProgressBar(_STEPS, node_id=node)
        bar.update_absolute(int(_STEPS * message["done"] / message["total"]), _STEPS)
        _text(f"{title}: {message.get('text') or message.get('stage', '')}{_remaining(message.get('remainingMs'))}", node)

    yield show
    if bar is not None:
        _text("", node)


def _remaining(ms: float | None) -> str:
    return "" if ms is None else f", about {max(1, round(ms / 1000))} s left"


def _text(text: str, node: str | None) -> None:
    server = PromptServer.instance
    if node is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node)
