"""ComfyUI. In: its MODELs, folders, prompts and pages. Out: node tables, routes, events for the browser.

Importing this costs milliseconds and touches no network: the sidecar is looked for, or started, in the background.
"""

from __future__ import annotations

from typing import Any

from server import PromptServer

from . import hints, memory
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from .plugin import plugin
from .routes import add_routes

EVENT_PREFIX = "refit."


def start() -> None:
    """Hooks into the running server. Outside of a server (tests, scripts that import nodes) there is nothing to hook into."""
    server = PromptServer.instance
    if server is None:
        return
    service = plugin()
    add_routes(server)
    server.add_on_prompt_handler(hints.on_prompt)
    memory.follow_unload(service.client)

    def tell(name: str, data: dict[str, Any]) -> None:
        server.send_sync(EVENT_PREFIX + name, data)

    service.facts.listen(tell)
    service.stacks.follow_loaders(service.ahead.loading)
    service.run_in_background()


__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "start"]
