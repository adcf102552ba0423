"""The function that Forge calls in place of its UNet, for one sampling run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ....client import SidecarError
from ...denoising import CallShape, NotServed, read_call, refuse_patches
from ..interrupt import check_sampling
from ..session import Session
from . import memory

# Arguments that describe a call and change nothing in the model.
DESCRIPTIVE = ("control_model",)


class EngineWrapper:
    """A call goes to the engine; after a failure this and all later calls go to the ordinary patcher `own`, which is loaded then.

    `failed` is told the reason, once. Clones of the patcher share one wrapper: Forge copies a patcher's options deeply whenever it is cloned.
    """

    def __init__(self, session: Session, shape: CallShape, own: Any, failed: Callable[[Exception], None]) -> None:
        self.session, self.own = session, own
        self._shape, self._failed = shape, failed
        self._local = False

    def __deepcopy__(self, _memo: dict) -> EngineWrapper:
        return self

    def __call__(self, apply_model: Callable[..., torch.Tensor], call: dict[str, Any]) -> torch.Tensor:
        x, timestep, arguments = call["input"], call["timestep"], call["c"]
        if not self._local:
            try:
                refuse_patches(arguments.get("transformer_options", {}))
                with _standing_in(apply_model.__self__, self._answer):  # pyright: ignore[reportFunctionMemberAccess]  Forge gives a bound method
                    return apply_model(x, timestep, **arguments)
            except (NotServed, SidecarError) as error:
                self.give_up(error)
                memory.bring_back(self.own, x.shape)
        return apply_model(x, timestep, **arguments)

    def give_up(self, reason: Exception) -> None:
        """All later calls go to the UI's own model."""
        self._local = True
        self.session.close()
        self._failed(reason)

    def _answer(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        named = {name: value for name, value in kwargs.items() if name not in DESCRIPTIVE}
        return self.session.answer(read_call(self._shape, args, named), check_sampling)


class _StandIn(torch.nn.Module):
    """Takes the diffusion model's place for one call, so that all the arithmetic around it stays the UI's own."""

    def __init__(self, own: torch.nn.Module, answer: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        # Not registered: whoever walks the modules meanwhile finds no weights twice.
        self.__dict__["_own"], self.__dict__["_answer"] = own, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_own"], name)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self._answer(*args, **kwargs)


@contextmanager
def _standing_in(model: torch.nn.Module, answer: Callable[..., torch.Tensor]) -> Iterator[None]:
    own = model.diffusion_model
    model.diffusion_model = _StandIn(own, answer)
    try:
        yield
    finally:
        model.diffusion_model = own
