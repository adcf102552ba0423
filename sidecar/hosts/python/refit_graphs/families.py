"""Chooses the builder of a structure. In: canonical shapes. Out: an Exportable. Raises UnsupportedStructure when no family's rules fit."""

from __future__ import annotations

from . import flux, sd3, unet_build, unet_config, wan
from .errors import UnsupportedStructure
from .exportable import Exportable
from .header import Shapes


def plan(shapes: Shapes) -> Exportable:
    if unet_config.is_unet(shapes):
        return unet_build.exportable(shapes)
    for family in (sd3, flux, wan):
        if family.matches(shapes):
            return family.exportable(shapes)
    raise UnsupportedStructure("expected a diffusion model of the families sd15, sd2, sdxl, sdxl-refiner, sd3, flux or wan; this header is of another kind")
