"""A1111's script hooks around one picture. The engine itself sits in the UNet slot."""

from __future__ import annotations

from typing import Any

from modules import shared

from ...denoising import NotServed
from ..patched import refuse_own_forward
from ..plugin import plugin
from ..wish import Wish
from .networks import refuse_unknown_kinds, stack
from .options import ensure_listed
from .unet import current, refuse_changed, release


class A1111Hook:
    """One per UI process, used by the sampling thread only."""

    def before_picture(self, wish: Wish) -> None:
        """Before the UI chooses its UNet: "Automatic" then finds the option of a checkpoint that came later."""
        if wish.enabled:
            ensure_listed()

    def networks_active(self, processing: Any, wish: Wish, tags: dict[str, list[Any]]) -> None:
        """After the LoRAs of a batch, or of its hires pass, were loaded. What is refused here never touches the engine."""
        unet = current()
        if unet is None:
            return
        unet.wish, unet.processing, unet.tags = wish, processing, tags
        try:
            if not wish.enabled:
                raise NotServed("it is switched off in the panel")
            refuse_changed(tags)
            applied = stack()
            refuse_unknown_kinds(applied)
        except NotServed as error:
            release(processing, error)
        else:
            plugin().status.update(stack=tuple((one.name, one.strength) for one in applied))

    def before_step(self) -> None:
        """An extension whose hook ran after ours may run the blocks itself, past our slot: then it gets the UNet on its device."""
        unet = current()
        if unet is not None:
            try:
                refuse_own_forward(shared.sd_model.model.diffusion_model)
            except NotServed as error:
                release(unet.processing, error)

    def end(self) -> None:
        unet = current()
        if unet is not None and shared.sd_model is not None:
            unet.end()
            unet.processing, unet.tags = None, {}
