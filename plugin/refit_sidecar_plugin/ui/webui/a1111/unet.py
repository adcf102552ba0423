"""The engine in A1111's UNet slot. What it cannot do goes to the original UNet, which is moved back to its device for that."""

from __future__ import annotations

from typing import Any

import torch
from modules import sd_unet, shared

from ....client import SidecarError
from ...denoising import UNET, NotServed, read_call
from ..desired import Desired
from ..interrupt import check_sampling
from ..patched import refuse_patched
from ..prompt_networks import refuse_foreign
from ..report import stayed_local
from ..session import Session
from . import memory
from .networks import stack
from .picture import picture


class EngineUnet(sd_unet.SdUnet):
    """Serves the picture that is being made while it is the UI's current UNet."""

    def __init__(self) -> None:
        super().__init__()
        self._session: Session | None = None

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As UNetModel.forward: what the model predicts. LoRAs, checkpoint (a refiner changes it) and size are looked at in every call."""
        try:
            _refuse_size(x)
            call = read_call(UNET, (x, timesteps, context, *args), kwargs)
            return self._session_for(x, context).answer(call, check_sampling)
        except (NotServed, SidecarError) as error:
            give_up(error)
            return shared.sd_model.model.diffusion_model(x, timesteps, context, *args, **kwargs)

    def end(self) -> None:
        """The picture is done. Idempotent; the next call opens a new session."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def deactivate(self) -> None:
        self.end()

    def _session_for(self, x: torch.Tensor, context: torch.Tensor) -> Session:
        desired, now = Desired(shared.sd_model.sd_checkpoint_info.filename, stack()), picture()
        if self._session is None or self._session.desired != desired:
            # Here every extension's hook of this sampling run is done.
            refuse_changed(now.tags)
            self.end()
            self._session = Session(desired, now.wish, memory.make_room)
        return self._session


def give_up(reason: Exception) -> None:
    """Gives the UNet slot back for this picture: the UI moves its own UNet to the device again. The next picture tries the engine anew."""
    now = picture()
    now.given_up = True
    stayed_local(now.processing, shared.sd_model.sd_checkpoint_info.name, reason)
    if current() is not None:
        sd_unet.apply_unet("None")
        memory.bring_back()


def current() -> EngineUnet | None:
    return sd_unet.current_unet if isinstance(sd_unet.current_unet, EngineUnet) else None


def refuse_changed(tags: dict[str, list[Any]]) -> None:
    """Raises NotServed for what the UI or its extensions do to the picture's UNet or LoRAs beyond strengths. `tags` as the prompt has them."""
    unet = shared.sd_model.model.diffusion_model
    if type(unet).__name__ != "UNetModel":
        raise NotServed(f"models of class {type(unet).__name__}", "RUN_MODEL_CLASS")
    if getattr(shared.sd_model, "applied_token_merged_ratio", 0):
        raise NotServed("token merging", "RUN_SETTING")
    if memory.stored_in_8_bits():
        raise NotServed("the checkpoint's weights are stored in 8 bits (FP8 weight)", "RUN_SETTING")
    refuse_patched(unet)
    refuse_foreign(tags)


def _refuse_size(x: torch.Tensor) -> None:
    """Where a halved size is not even, A1111 stretches the UNet's inner pictures in a way of its own, and no other UI's (modules/sd_hijack_unet.py)."""
    step = 2 ** (len(getattr(shared.sd_model.model.diffusion_model, "channel_mult", (1,))) - 1)
    height, width = x.shape[-2:]
    if height % step or width % step:
        raise NotServed(
            f"{8 * width} x {8 * height} is no size in steps of {8 * step}, and A1111 makes such sizes in a way of its own", "RUN_SETTING"
        )
