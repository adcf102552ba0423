"""Chooses the builder of a structure. In: canonical shapes. Out: an Exportable. Raises UnsupportedStructure when no family's rules fit."""

from __future__ import annotations

from importlib import import_module

from . import unet_build, unet_config
from .descriptions import descriptions, family_of, for_torch_alone
from .errors import UnsupportedStructure
from .exportable import Exportable
from .header import Shapes


def plan(shapes: Shapes) -> Exportable:
    if unet_config.is_unet(shapes):
        return unet_build.exportable(shapes)
    found = family_of(shapes)
    if found is not None and found.family in with_graph():
        # What a description cannot say stands in the module of the family's name: configuration, module, call.
        return import_module(f".{found.family}", __package__).exportable(shapes)
    raise UnsupportedStructure(f"expected a diffusion model of the families {', '.join(with_graph())}; this header is of another kind")


def with_graph() -> list[str]:
    """Families of which an ONNX graph can be made."""
    return [name for name, one in descriptions().items() if not for_torch_alone(one) or "hostsWhen" in one]
