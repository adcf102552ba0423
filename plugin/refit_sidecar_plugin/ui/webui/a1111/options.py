"""A1111's list of exchangeable UNets: one entry per checkpoint that an engine could hold, all made of the same class."""

from __future__ import annotations

from typing import Any

from modules import sd_models, sd_unet, shared

from ..plugin import plugin
from ..session import SAFETENSORS
from .unet import EngineUnet


class EngineOption(sd_unet.SdUnetOption):
    def __init__(self, checkpoint: Any) -> None:
        self._checkpoint = checkpoint
        self.label = f"[Refit] {checkpoint.model_name}"

    @property
    def model_name(self) -> str | None:
        """The setting "Automatic" compares this with the checkpoint's; while the panel's switch is off there is nothing to choose."""
        return self._checkpoint.model_name if plugin().status.view.enabled else None

    def create_unet(self) -> EngineUnet:
        return EngineUnet()


def list_options(found: list[Any]) -> None:
    """For `script_callbacks.on_list_unets`."""
    found += [EngineOption(checkpoint) for checkpoint in sd_models.checkpoints_list.values() if _could_serve(checkpoint)]


def ensure_listed() -> None:
    """A checkpoint that came after the UI listed its UNets is listed now."""
    name = shared.sd_model.sd_checkpoint_info.model_name
    if not any(isinstance(option, EngineOption) and option.model_name == name for option in sd_unet.unet_options):
        sd_unet.list_unets()


def why_not_chosen() -> str:
    """Completes "not on an engine: ..." where the UI chose no entry of ours for this checkpoint."""
    checkpoint = shared.sd_model.sd_checkpoint_info
    if not _could_serve(checkpoint):
        return f"{checkpoint.name} is no safetensors file"
    setting = shared.opts.sd_unet
    if setting == "Automatic":
        return "another extension's UNet was chosen for this checkpoint"
    return f'the setting "SD Unet" is {setting}; Automatic lets an engine serve'


def _could_serve(checkpoint: Any) -> bool:
    return checkpoint.filename.lower().endswith(SAFETENSORS)
