"""The one service of this UI process. Made on first use; `connect` looks for the sidecar, or starts it, in the background."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache

from modules import paths_internal, shared

from ... import __version__
from ...client import SidecarClient, default_data_dir
from ...launcher import start_sidecar
from ...service import Folder, Service
from .status import Status


class Plugin(Service):
    def __init__(self) -> None:
        super().__init__(SidecarClient(ui_name(), __version__), lambda: start_sidecar(default_data_dir()), lambda: list(folders()))
        self.status = Status()
        # Checkpoint ids that an engine served in this process.
        self.served: set[str] = set()
        self._connecting = False

    def connect(self) -> None:
        """Starts the background thread, once."""
        if not self._connecting:
            self._connecting = True
            self.run_in_background()


@cache
def plugin() -> Plugin:
    return Plugin()


def ui_name() -> str:
    """A1111, Forge Neo, or Forge for Forge and its other forks."""
    if not importlib.util.find_spec("modules_forge"):
        return "A1111"
    version = (
        importlib.import_module("modules_forge.forge_version").version if importlib.util.find_spec("modules_forge.forge_version") else ""
    )
    return "Forge Neo" if version == "neo" else "Forge"


def folders() -> Iterator[Folder]:
    """As the UI's own arguments set them; --data-dir and --models-dir are in `models_path` already."""
    options, models = shared.cmd_opts, paths_internal.models_path
    wanted = [
        (getattr(options, "lora_dir", None) or os.path.join(models, "Lora"), "adapters"),
        (getattr(options, "lyco_dir_backcompat", None), "adapters"),
        (os.path.join(models, "Stable-diffusion"), "checkpoints"),
        (getattr(options, "ckpt_dir", None), "checkpoints"),
        # Forge Neo takes several of each.
        *((path, "adapters") for path in getattr(options, "lora_dirs", None) or ()),
        *((path, "checkpoints") for path in getattr(options, "ckpt_dirs", None) or ()),
    ]
    seen: set[str] = set()
    for path, kind in wanted:
        absolute = os.path.abspath(path) if path else ""
        if absolute and absolute not in seen and os.path.isdir(absolute):
            seen.add(absolute)
            yield Folder(absolute, kind)
