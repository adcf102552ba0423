"""Chooses the builder of a structure. In: canonical shapes. Out: an Exportable, everything a trace and graph.json need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from . import unet_build, unet_config
from .errors import UnsupportedStructure
from .header import Shapes
from .weightless import DataInput


@dataclass(frozen=True)
class Exportable:
    """One structure, ready to be traced. `weights`: module parameter -> weight name; `refit_map`: rows of graph.json."""

    family: str
    file_stem: str
    config: Mapping[str, Any]
    build: Callable[[], nn.Module]
    weights: Mapping[str, str]
    inputs: tuple[DataInput, ...]
    residuals: tuple[DataInput, ...]
    output: DataInput
    trace_sizes: Mapping[str, int]
    call: Callable[..., tuple]
    refit_map: list[dict[str, Any]]


def plan(shapes: Shapes) -> Exportable:
    """Raises UnsupportedStructure when no family's rules fit."""
    if unet_config.is_unet(shapes):
        return _unet(shapes)
    raise UnsupportedStructure("expected a UNet of the families sd15, sd2, sdxl or sdxl-refiner; this header is of another kind")


def _unet(shapes: Shapes) -> Exportable:
    unet = unet_config.plan_unet(shapes)
    _, names = unet_build.build_unet(unet, shapes)
    return Exportable(
        family=unet.family,
        file_stem="unet",
        config=unet.config,
        build=lambda: unet_build.build_unet(unet, shapes)[0],
        weights=names,
        inputs=tuple(unet_build.step_inputs(unet)),
        residuals=tuple(unet_build.residual_inputs(unet)),
        output=DataInput("out_sample", ("batch", unet.config["out_channels"], "height", "width")),
        trace_sizes=unet_build.trace_sizes(unet),
        call=unet_build.unet_call(unet),
        refit_map=[whole(name, name, shape) for name, shape in sorted(shapes.items())],
    )


def whole(parameter: str, weight: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """A row for a parameter that is one weight."""
    return {"parameter": parameter, "weight": weight, "shape": list(shape), "slice": None, "swapHalves": False, "layout": "as-is", "refittable": True}
