"""Where a MODEL's weights come from, and how the user wants them served. Travels with every clone of a MODEL as an attachment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import comfy.sd

ATTACHMENT = "refit_sidecar"
FOLDERS = ("checkpoints", "diffusion_models")


@dataclass(frozen=True)
class Settings:
    """The user's wishes; "auto" leaves the choice to the sidecar."""

    host: str = "auto"
    precision: str = "auto"


@dataclass
class Source:
    """A checkpoint file by ComfyUI's own name. Clones of a MODEL share one Source, so the fallback model is loaded at most once."""

    path: str
    folder: str
    name: str
    settings: Settings = field(default_factory=Settings)
    # The ordinary MODEL, once a run or a node needed it. None for a MODEL that has its weights anyway.
    local: Any = None

    def load_local(self) -> Any:
        """ComfyUI's own loader, diffusion model only; remembered. Raises what the loader raises."""
        if self.local is None:
            self.local = load_ordinary(self.path, self.folder)
        return self.local


def load_ordinary(path: str, folder: str, disable_dynamic: bool = False) -> Any:
    """A MODEL as ComfyUI loads the file, whichever of its loaders that takes: some diffusion models lie in the checkpoints folder and the other way round.

    `disable_dynamic`: see ModelPatcher.cached_patcher_init of ComfyUI, which calls this; versions before dynamic memory never set it.
    """
    options: dict[str, Any] = {"disable_dynamic": True} if disable_dynamic else {}
    loaders = {
        "checkpoints": lambda: comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False, **options)[0],
        "diffusion_models": lambda: comfy.sd.load_diffusion_model(path, **options),
    }
    first = loaders.pop(folder, None) or loaders.pop("checkpoints")
    try:
        model = first()
        if model is not None:
            return model
    except RuntimeError:
        # ComfyUI's word for a file that this loader does not recognise; the other one says so in its own words, or loads it.
        pass
    return next(iter(loaders.values()))()
