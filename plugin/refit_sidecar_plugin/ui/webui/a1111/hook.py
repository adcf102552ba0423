"""A1111's script hooks around one picture. The engine itself sits in the UNet slot."""

from __future__ import annotations

from typing import Any

from modules import sd_unet, shared

from ...denoising import NotServed
from ..patched import refuse_own_forward
from ..plugin import plugin
from ..wish import Wish
from . import memory
from .networks import refuse_other_kinds, stack
from .options import ensure_listed, why_not_chosen
from .picture import picture
from .unet import current, give_up, refuse_changed


class A1111Hook:
    """One per UI process, used by the sampling thread only."""

    def before_picture(self, wish: Wish) -> None:
        """Before the UI chooses its UNet: "Automatic" then finds the option of a checkpoint that came later."""
        self._close()
        picture().begin(wish)
        if wish.enabled:
            ensure_listed()

    def networks_active(self, processing: Any, wish: Wish, tags: dict[str, list[Any]]) -> None:
        """After the LoRAs of a batch, or of its hires pass, were loaded. What is refused here never touches the engine."""
        now = picture()
        now.wish, now.processing, now.tags = wish, processing, tags
        if current() is None and not self._take_slot():
            return
        try:
            if not wish.enabled:
                raise NotServed("it is switched off in the panel", "RUN_SETTING")
            refuse_changed(tags)
            applied = stack()
            refuse_other_kinds(applied)
        except NotServed as error:
            give_up(error)
        else:
            plugin().status.update(stack=tuple((one.name, one.strength) for one in applied))

    def before_step(self) -> None:
        """An extension whose hook ran after ours may run the blocks itself, past our slot: then it gets the UNet on its device.
        A refiner or another checkpoint for hires, which the UI loads within the picture, left the slot empty: it is taken again.
        """
        if current() is None and not self._take_slot():
            return
        try:
            refuse_own_forward(shared.sd_model.model.diffusion_model)
        except NotServed as error:
            give_up(error)
        else:
            memory.keep_off_device()

    def end(self) -> None:
        self._close()
        picture().end()

    def _close(self) -> None:
        unet = current()
        if unet is not None and shared.sd_model is not None:
            unet.end()
            memory.release()

    def _take_slot(self) -> bool:
        """As the UI does at the start of a picture. What stands in the way is told once a picture."""
        now = picture()
        if now.processing is None or now.given_up or not now.wish.enabled:
            return False
        ensure_listed()
        sd_unet.apply_unet()
        if current() is None:
            give_up(NotServed(why_not_chosen(), "RUN_SETTING"))
        return current() is not None
