"""Where a MODEL's weights come from, and how the user wants them served. Travels with every clone of a MODEL as an attachment."""

from __future__ import annotations

from dataclasses import dataclass, field

import comfy.sd

ATTACHMENT = "refit_sidecar"
FOLDERS = ("checkpoints", "diffusion_models")


@dataclass(frozen=True)
class Settings:
    """The user's wishes; "auto" leaves the choice to the sidecar."""

    host: str = "auto"
    precision: str = "auto"
    profile: str = "auto"


@dataclass
class Source:
    """A checkpoint file by ComfyUI's own name. Clones of a MODEL share one Source, so the fallback model is loaded at most once."""

    path: str
    folder: str
    name: str
    settings: Settings = field(default_factory=Settings)
    # The ordinary MODEL, once a run needed it. None for a MODEL that has its weights anyway.
    local: object | None = None

    def load_local(self) -> object:
        """ComfyUI's own loader, diffusion model only; remembered."""
        if self.local is None:
            if self.folder == "checkpoints":
                self.local = comfy.sd.load_checkpoint_guess_config(self.path, output_vae=False, output_clip=False)[0]
            else:
                self.local = comfy.sd.load_diffusion_model(self.path)
        return self.local
