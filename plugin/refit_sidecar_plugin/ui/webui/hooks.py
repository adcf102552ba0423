"""The UI's hooks, in the words of its script interface, handed on to the backend of the UI that is running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modules import script_callbacks

from .plugin import plugin, ui_name
from .wish import Wish


class Hooks:
    """`values` are the panel's, in its order. Called by the UI's sampling thread only."""

    def __init__(self) -> None:
        self._forge = self._a1111 = None
        if ui_name() == "A1111":
            from .a1111.hook import A1111Hook
            from .a1111.options import list_options

            self._a1111 = a1111 = A1111Hook()
            script_callbacks.on_list_unets(list_options)
            script_callbacks.on_cfg_denoiser(lambda step: a1111.before_step())
        else:
            from .forge.hook import ForgeHook

            self._forge = forge = ForgeHook()
            script_callbacks.on_cfg_denoiser(lambda step: forge.before_step(step.x))

    def before_process(self, values: Sequence[object]) -> None:
        """A new picture, or a series of them."""
        wish = Wish.of(values)
        status = plugin().status
        status.update(enabled=wish.enabled, host=wish.host)
        if not wish.enabled:
            status.update(state="idle", line=f"Switched off: pictures are made in {ui_name()} itself.", stack=())
        if self._forge is not None:
            # A picture that ended in an error of the UI never said so.
            self._forge.end()
        if self._a1111 is not None:
            self._a1111.before_picture(wish)

    def networks_active(self, processing: Any, values: Sequence[object], tags: dict[str, list[Any]]) -> None:
        if self._a1111 is not None:
            self._a1111.networks_active(processing, Wish.of(values), tags)

    def before_sampling(self, processing: Any, values: Sequence[object], arguments: dict[str, Any]) -> None:
        """Forge's only: `arguments` has x, noise, c and uc."""
        if self._forge is not None:
            self._forge.before_sampling(processing, Wish.of(values), arguments["x"], (arguments.get("c"), arguments.get("uc")))

    def sampled(self) -> None:
        """A batch was sampled, hires pass included; the engine is given back."""
        if self._forge is not None:
            self._forge.end()
        if self._a1111 is not None:
            self._a1111.end()
