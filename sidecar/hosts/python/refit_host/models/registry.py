"""Which family builds a structure."""

from __future__ import annotations

from refit_graphs.unet_config import UnsupportedStructure, is_unet

from ..failure import HostFailure
from . import unet
from .spec import ModelSpec, Shapes


def spec_of(shapes: Shapes) -> ModelSpec:
    """The model of canonical shapes. Raises HOST_GRAPH_INVALID when no family's rules fit."""
    try:
        if is_unet(dict(shapes)):
            return unet.spec(shapes)
    except UnsupportedStructure as error:
        raise HostFailure("HOST_GRAPH_INVALID", str(error)) from error
    raise HostFailure("HOST_GRAPH_INVALID", "this host knows no model for the structure of this checkpoint; the UI's own path serves it")
