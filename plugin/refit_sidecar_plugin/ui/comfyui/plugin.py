"""The one service of this ComfyUI process and what belongs to it. Made on first use, so that importing the nodes stays cheap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import folder_paths

from ... import __version__
from ...client import SidecarClient, default_data_dir
from ...launcher import start_sidecar
from ...service import Folder, Service
from .ahead import Ahead
from .stack_reader import StackReader


class Plugin(Service):
    def __init__(self) -> None:
        super().__init__(SidecarClient("ComfyUI", __version__), lambda: start_sidecar(default_data_dir()), lambda: list(_folders()))
        self.stacks = StackReader(default_data_dir() / "plugin-identities.json")
        self.ahead = Ahead(self.client, self.catalog)


@cache
def plugin() -> Plugin:
    return Plugin()


def _folders() -> Iterator[Folder]:
    """ComfyUI's own lists, extra_model_paths included."""
    seen: set[str] = set()
    for name, kind in (("loras", "adapters"), ("checkpoints", "checkpoints"), ("diffusion_models", "checkpoints")):
        for path in folder_paths.get_folder_paths(name):
            path = os.path.abspath(path)
            if path not in seen and os.path.isdir(path):
                seen.add(path)
                yield Folder(path, kind)  # pyright: ignore[reportArgumentType]  the loop's own two words
