"""The engine in A1111's UNet slot. What it cannot do goes to the original UNet, which is moved back to its device for that."""

from __future__ import annotations

from typing import Any

import torch
from modules import devices, sd_unet, shared

from ....client import SidecarError
from ....engine import exact_profile
from ...denoising import UNET, NotServed, read_call
from ..desired import Desired
from ..interrupt import check_sampling
from ..patched import refuse_patched
from ..prompt_networks import refuse_foreign
from ..report import stayed_local
from ..session import Session
from ..wish import EXACT, Wish
from .networks import stack


class EngineUnet(sd_unet.SdUnet):
    """Serves while it is the UI's current UNet. `wish`, `processing` and `tags` are of the picture that is being made."""

    def __init__(self) -> None:
        super().__init__()
        self._session: Session | None = None
        self.wish = Wish(enabled=True)
        self.processing: Any = None
        self.tags: dict[str, list[Any]] = {}

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As UNetModel.forward: what the model predicts. LoRAs, checkpoint (a refiner changes it) and size are looked at in every call."""
        try:
            call = read_call(UNET, (x, timesteps, context, *args), kwargs)
            return self._session_for(x, context).answer(call, check_sampling)
        except (NotServed, SidecarError) as error:
            release(self.processing, error)
            return shared.sd_model.model.diffusion_model(x, timesteps, context, *args, **kwargs)

    def end(self) -> None:
        """The picture is done. Idempotent; the next call opens a new session."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def deactivate(self) -> None:
        self.end()

    def _session_for(self, x: torch.Tensor, context: torch.Tensor) -> Session:
        desired = Desired(shared.sd_model.sd_checkpoint_info.filename, stack())
        if self._session is None or self._session.desired != desired:
            # Here every extension's hook of this sampling run is done.
            refuse_changed(self.tags)
            self.end()
            profile = exact_profile(x.shape[0], 1, *x.shape[-2:], [context.shape[1]]) if self.wish.profile == EXACT else None
            self._session = Session(desired, self.wish, profile, make_room)
        return self._session


def release(processing: Any, reason: object) -> None:
    """Gives the UNet slot back for this picture: the UI moves its own UNet to the device again. The next picture tries the engine anew."""
    stayed_local(processing, shared.sd_model.sd_checkpoint_info.name, reason)
    sd_unet.apply_unet("None")


def current() -> EngineUnet | None:
    return sd_unet.current_unet if isinstance(sd_unet.current_unet, EngineUnet) else None


def refuse_changed(tags: dict[str, list[Any]]) -> None:
    """Raises NotServed for what the UI or its extensions do to the picture's UNet or LoRAs beyond strengths. `tags` as the prompt has them."""
    if getattr(shared.sd_model, "applied_token_merged_ratio", 0):
        raise NotServed("token merging")
    refuse_patched(shared.sd_model.model.diffusion_model)
    refuse_foreign(tags)


def make_room(wanted: int) -> int:
    """A1111 keeps its UNet off the device already; its cache is what can be given back."""
    if not torch.cuda.is_available():
        return 0
    before = torch.cuda.mem_get_info()[0]
    devices.torch_gc()
    return max(0, torch.cuda.mem_get_info()[0] - before)
