"""What `<lora:...>` tags ask for beyond name and strengths, and who reads them. An engine does exactly what the UI's own loader does, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules import extra_networks, shared

from ..denoising import NotServed

# Arguments of the built-in loader; others belong to extensions that weight blocks or change strengths during the run.
OWN_ARGUMENTS = frozenset({"te", "unet", "dyn"})
BUILT_IN = "extra_networks_lora"


def refuse_foreign(data: Mapping[str, list[Any]]) -> None:
    """`data`: ExtraNetworkParams by tag name, as the UI parsed them. Raises NotServed with what an engine cannot do."""
    loader = extra_networks.extra_network_registry.get("lora")
    if loader is not None and type(loader).__module__ != BUILT_IN:
        raise NotServed(f"another extension replaced the LoRA loader ({type(loader).__module__.rsplit('.', 1)[-1]})", "RUN_PATCH_UNKNOWN")
    for tag in ("lora", "lyco"):
        for params in data.get(tag, ()):
            _refuse_arguments(params)
    if data.get("hypernet") or getattr(shared, "loaded_hypernetworks", None):
        raise NotServed("a hypernetwork", "RUN_SETTING")


def _refuse_arguments(params: Any) -> None:
    name = params.positional[0] if params.positional else "a LoRA"
    for argument in params.named:
        if argument not in OWN_ARGUMENTS:
            raise NotServed(f"{name} has block weights or a schedule of another extension ({argument}=)", "RUN_WEIGHTS_CHANGE")
    if params.named.get("dyn") is not None or len(params.positional) > 3:
        raise NotServed(f"{name} has a dynamic rank or block weights", "RUN_WEIGHTS_CHANGE")
    for value in (*params.positional[1:], *(params.named[key] for key in params.named)):
        try:
            float(value)
        except (TypeError, ValueError):
            raise NotServed(f"{name} has block weights or a schedule of another extension ({value})", "RUN_WEIGHTS_CHANGE") from None
