"""The extension's settings: what the accordion starts with, and which messages the page shows."""

from __future__ import annotations

import gradio as gr
from modules import shared

from ....engine import HOSTS

SECTION = ("refit-sidecar", "Refit Sidecar")


def add_settings() -> None:
    """For script_callbacks.on_ui_settings. The keys are stable: they stand in users' config.json; the page reads the last two."""
    choices = {
        "refit_sidecar_enabled": shared.OptionInfo(False, "Start switched on").info("also for API calls that do not name Refit Sidecar"),
        "refit_sidecar_host": shared.OptionInfo("auto", "Engine host at the start", gr.Dropdown, {"choices": list(HOSTS)}),
        "refit_sidecar_messages_new": shared.OptionInfo(True, "Tell when a new LoRA is ready"),
        "refit_sidecar_messages_fallback": shared.OptionInfo(True, "Tell when a picture was not made on an engine"),
    }
    for key, option in choices.items():
        option.section = SECTION
        if not key.startswith("refit_sidecar_messages"):
            option.needs_reload_ui()
        shared.opts.add_option(key, option)


def starts_enabled() -> bool:
    return bool(getattr(shared.cmd_opts, "refit_sidecar", False)) or bool(shared.opts.data.get("refit_sidecar_enabled", False))


def start_host() -> str:
    return _chosen("refit_sidecar_host", HOSTS)


def _chosen(key: str, choices: tuple[str, ...]) -> str:
    """A value that an older version saved may be none of the choices any more."""
    value = shared.opts.data.get(key, choices[0])
    return value if value in choices else choices[0]
