"""Refit Sidecar for ComfyUI: LoRAs on a compiled engine, with the nodes that people already use. Does nothing outside of ComfyUI."""

import sys

NODE_CLASS_MAPPINGS: dict = {}
NODE_DISPLAY_NAME_MAPPINGS: dict = {}
WEB_DIRECTORY = "./web"

# `server` and `folder_paths` are ComfyUI's own top-level modules; A1111 and Forge enter through `scripts/`.
if "server" in sys.modules and "folder_paths" in sys.modules:
    from .refit_sidecar_plugin.ui import comfyui

    NODE_CLASS_MAPPINGS = comfyui.NODE_CLASS_MAPPINGS
    NODE_DISPLAY_NAME_MAPPINGS = comfyui.NODE_DISPLAY_NAME_MAPPINGS
    comfyui.start()

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
