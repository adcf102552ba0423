"""The page of A1111, Forge and reForge: tab, settings and routes. The accordion belongs to the script beside this file."""

from refit_sidecar_plugin.ui.webui.ui import register

register()
