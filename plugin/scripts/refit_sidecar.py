"""The door for A1111, Forge and reForge: one always-visible script that hands the UI's hooks on."""

import gradio as gr
from modules import scripts
from refit_sidecar_plugin.hosts.webui.plugin import plugin

try:
    from refit_sidecar_plugin.hosts.webui.ui.panel import build_panel
except ModuleNotFoundError:

    def build_panel(is_img2img: bool) -> list[gr.components.Component]:
        return []


class RefitSidecarScript(scripts.Script):
    def title(self) -> str:
        return "Refit Sidecar"

    def show(self, is_img2img: bool) -> object:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[gr.components.Component]:
        return build_panel(is_img2img)


plugin().connect()
