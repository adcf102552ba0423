"""What people see of the extension in A1111 and Forge. In: the UI's callbacks and the service's state. Out: accordion, tab, settings, routes of the page.

The page's script is `javascript/refit-sidecar.mjs`; everything that it shows comes through these routes.
"""

from __future__ import annotations

from typing import Any

from modules import script_callbacks

from .panel import build_panel
from .routes import add_routes
from .settings import add_settings
from .tab import build_tab


def register() -> None:
    """Once each time that the UI loads its scripts; it forgets callbacks before it loads them again."""
    script_callbacks.on_ui_settings(add_settings)
    script_callbacks.on_ui_tabs(build_tab)
    script_callbacks.on_app_started(_on_app_started)


def _on_app_started(_: Any, app: Any) -> None:
    add_routes(app)


__all__ = ["build_panel", "register"]
