"""Chooses the builder of a structure. In: canonical shapes. Out: an Exportable. Raises UnsupportedStructure when no family's rules fit."""

from __future__ import annotations

from . import flux, sd3, unet_build, unet_config, wan
from .descriptions import family_of
from .errors import UnsupportedStructure
from .exportable import Exportable
from .header import Shapes

# What a description cannot say, one module a family: configuration, module, call.
BUILDERS = {"sd3": sd3, "flux": flux, "wan": wan}
UNETS = ("sd15", "sd2", "sdxl", "sdxl-refiner")


def plan(shapes: Shapes) -> Exportable:
    if unet_config.is_unet(shapes):
        return unet_build.exportable(shapes)
    found = family_of(shapes)
    if found is not None and found.family in BUILDERS:
        return BUILDERS[found.family].exportable(shapes)
    raise UnsupportedStructure(
        f"expected a diffusion model of the families {', '.join(UNETS)}, {', '.join(BUILDERS)}; this header is of another kind"
    )
