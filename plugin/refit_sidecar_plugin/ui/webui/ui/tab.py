"""The tab: an empty place, which the page's script fills with the same panel as ComfyUI's sidebar."""

from __future__ import annotations

from typing import Any

import gradio as gr


def build_tab() -> list[tuple[Any, str, str]]:
    """For script_callbacks.on_ui_tabs."""
    with gr.Blocks(analytics_enabled=False) as tab:
        gr.HTML('<div class="refit-webui refit-tab"><p class="refit-empty">The page is starting.</p></div>', elem_id="refit_sidecar_panel")
    return [(tab, "Refit", "refit_sidecar")]
