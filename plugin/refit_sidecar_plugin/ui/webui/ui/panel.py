"""The accordion under the prompt, in txt2img and img2img."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
from modules.ui_components import InputAccordion

from ....engine import HOSTS
from ..plugin import plugin
from ..status import View
from .settings import start_host, starts_enabled


def build_panel(is_img2img: bool) -> list[Any]:
    """Components in the order of the script's arguments: enabled (bool), host. The state line, and a word of it beside
    the closed accordion's name, update themselves in the page (web/refit/webui.mjs).
    """
    name = "refit_img2img" if is_img2img else "refit_txt2img"
    with InputAccordion(starts_enabled(), label="Refit Sidecar", elem_id=name) as enabled:
        with enabled.extra():
            gr.HTML('<span class="refit-brief"></span>', elem_id=f"{name}_brief")
        gr.HTML(state_line(plugin().status.view), elem_id=f"{name}_state")
        with gr.Row():
            host = gr.Dropdown(list(HOSTS), value=start_host(), label="Engine host", elem_id=f"{name}_host")
    return [enabled, host]


def state_line(view: View) -> str:
    """As the page first shows it; the page's script then keeps the text and `data-state` up to date."""
    return f'<div class="refit-line" role="status" data-state="{escape(view.state)}">{escape(view.line)}</div>'
