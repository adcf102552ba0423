"""The LoRAs that A1111 has loaded for the picture, in the plugin's own words."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from modules import shared

from ....files import HeaderError, read_header
from ...denoising import NotServed
from ..desired import Applied

# By an adapter's parts: A1111 leaves alpha out of GLoRA, bounds and weights OFT and BOFT otherwise, and knows OFT's first spelling.
OTHERWISE = {".a1.weight": "a GLoRA", ".oft_blocks": "an OFT or BOFT", ".oft_diag": "an OFT"}


def stack() -> tuple[Applied, ...]:
    """As the built-in loader holds them now, in order of application. Raises NotServed for what an engine cannot do."""
    networks = loaded()
    if networks is None:
        return ()
    if getattr(shared.opts, "lora_functional", False) and networks.loaded_networks:
        raise NotServed('the setting "use old method" for LoRAs', "RUN_SETTING")
    out = []
    for network in networks.loaded_networks:
        if network.dyn_dim is not None:
            raise NotServed(f"{network.name} is used at another rank ({network.dyn_dim})", "RUN_ADAPTER_KIND")
        multiplier = network.unet_multiplier
        if not isinstance(multiplier, (int, float)):
            raise NotServed(f"{network.name} has block weights or a schedule of another extension", "RUN_WEIGHTS_CHANGE")
        out.append(Applied(network.network_on_disk.filename, float(multiplier)))
    return tuple(out)


def refuse_other_kinds(applied: tuple[Applied, ...]) -> None:
    """Raises NotServed for files of which this UI makes something else than an engine does."""
    for one in applied:
        try:
            entries = read_header(one.path).entries
        except (HeaderError, OSError):
            continue
        _refuse_dora(one.name, [entry.shape for name, entry in entries.items() if name.endswith(".dora_scale")])
        for part, kind in OTHERWISE.items():
            if any(name.endswith(part) for name in entries):
                raise NotServed(f"{one.name} is {kind}, of which A1111 makes something else than an engine does", "RUN_ADAPTER_KIND")


def _refuse_dora(name: str, scales: list[tuple[int, ...]]) -> None:
    """DoRA came with 1.9, and reads every file as one with a scale for each input."""
    network = sys.modules.get("network")
    if scales and network is not None and not hasattr(network.NetworkModule, "apply_weight_decompose"):
        raise NotServed(f"{name} is a DoRA, which this version of A1111 applies as a plain LoRA", "RUN_ADAPTER_KIND")
    if any(shape[0] != 1 for shape in scales):
        raise NotServed(f"{name} is a DoRA with a scale for each output, which A1111 reads as one for each input", "RUN_ADAPTER_KIND")


def loaded() -> ModuleType | None:
    """The built-in Lora extension's module; None when the user switched that extension off."""
    try:
        return importlib.import_module("networks")
    except ModuleNotFoundError:
        return None
