"""Which module serves a structure. Configurations, names and the refit map are the graph exporter's, so graph and module agree."""

from __future__ import annotations

from typing import Mapping

import torch
from refit_graphs.descriptions import family_of
from refit_graphs.errors import UnsupportedStructure
from refit_graphs.exportable import Exportable
from refit_graphs.families import plan
from torch import Tensor

from ..failure import HostFailure
from . import hosted, unet
from .family_module import Forward, fuse_of, module_of, step, stepping
from .fused_sources import fused_sources
from .spec import ModelSpec, Shapes, Source


def spec_of(shapes: Shapes) -> ModelSpec:
    """The model of canonical shapes. Raises HOST_GRAPH_INVALID when no family's rules fit."""
    try:
        without_graph = hosted.spec_of(shapes)
        if without_graph is not None:
            return without_graph
        found = plan(dict(shapes))
    except UnsupportedStructure as error:
        raise HostFailure("HOST_GRAPH_INVALID", str(error)) from error
    family = unet if found.file_stem == "unet" else module_of(found.family)
    adapt, own = getattr(family, "adapt", lambda module, config: module), getattr(family, "forward", None)

    def made() -> torch.nn.Module:
        module = adapt(found.build(), found.config)
        return module if own is None else stepping(module, own)

    # Building takes a tenth of a second: the one that is looked at here is the first that is asked for.
    kept = [made()]
    # Classes that the model repeats (diffusers lists none for SD3).
    repeated = tuple(getattr(type(kept[0]), "_repeated_blocks", None) or ("JointTransformerBlock",))

    def build() -> torch.nn.Module:
        try:
            return kept.pop()
        except IndexError:
            return made()

    sources = fused_sources(sources_of(found), kept[0].state_dict())
    described = family_of(shapes)
    ports = None if described is None else hosted.ports_of(described)
    also = getattr(family, "ALSO_REPEATED", ())
    run = _in_order(found) if own is None else step
    return ModelSpec(found.family, found.config, build, sources, (*repeated, *also), run, fuse_of(family), ports)


def sources_of(found: Exportable) -> dict[str, Source]:
    rows = {row["weight"]: row for row in found.refit_map}
    out = {}
    for name, weight in found.weights.items():
        row = rows[weight]
        part = row["slice"]
        out[name] = Source(row["parameter"], None if part is None else (part["start"], part["length"]), row["swapHalves"])
    return out


def _in_order(found: Exportable) -> Forward:
    """The exporter's own call: data tensors in the order of the graph's inputs."""
    names = [item.name for item in found.inputs]
    residuals = [item.name for item in found.residuals]

    def forward(module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        given = [inputs[name] for name in names]
        return found.run(module, *given, *([inputs[name] for name in residuals] if "mid_residual" in inputs else ()))

    return forward
