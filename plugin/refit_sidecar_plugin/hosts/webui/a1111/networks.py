"""The LoRAs that A1111 has loaded for the picture, in the plugin's own words."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from modules import shared

from ....files import HeaderError, read_header
from ...denoising import NotServed
from ..desired import Applied


def stack() -> tuple[Applied, ...]:
    """As the built-in loader holds them now, in order of application. Raises NotServed for what an engine cannot do."""
    networks = loaded()
    if networks is None:
        return ()
    if getattr(shared.opts, "lora_functional", False) and networks.loaded_networks:
        raise NotServed('the setting "use old method" for LoRAs')
    out = []
    for network in networks.loaded_networks:
        if network.dyn_dim is not None:
            raise NotServed(f"{network.name} is used at another rank ({network.dyn_dim})")
        multiplier = network.unet_multiplier
        if not isinstance(multiplier, (int, float)):
            raise NotServed(f"{network.name} has block weights or a schedule of another extension")
        out.append(Applied(network.network_on_disk.filename, float(multiplier)))
    return tuple(out)


def refuse_unknown_kinds(applied: tuple[Applied, ...]) -> None:
    """Raises NotServed for files that an engine reads in full and this version of A1111 does not: DoRA came with 1.9."""
    network = sys.modules.get("network")
    if network is None or hasattr(network.NetworkModule, "apply_weight_decompose"):
        return
    for one in applied:
        try:
            names = read_header(one.path).entries
        except (HeaderError, OSError):
            continue
        if any(name.endswith(".dora_scale") for name in names):
            raise NotServed(f"{one.name} is a DoRA, which this version of A1111 applies as a plain LoRA")


def loaded() -> ModuleType | None:
    """The built-in Lora extension's module; None when the user switched that extension off."""
    try:
        return importlib.import_module("networks")
    except ModuleNotFoundError:
        return None
