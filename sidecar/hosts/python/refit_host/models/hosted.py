"""Families that this host serves without a graph: modules of diffusers, called in ComfyUI's convention.

In: canonical shapes. Out: a ModelSpec, with names and inputs from the family's description (protocol/families); None for every other family.
The module of the family's name in this folder says what a description cannot: `config_of(shapes)`, `build(config, shapes)` on the meta device, `adapt(module, config)`,
and `forward(module, inputs)`. `REPEATED`: its blocks of a step, where diffusers lists others too. `FUSED`: the file of its fused blocks (refit_host/fused), where it has any.
`OWN_NAMES`: beginnings of names that the module has as the checkpoint has them (parts that diffusers keeps elsewhere). `LEFT_OUT`: a pattern of names that a step does not need.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from refit_graphs.descriptions import Described, family_of

from .family_module import fuse_of, module_of, step, stepping
from .fused_sources import fused_sources
from .spec import ModelSpec, Ports, Shapes, Source

OUTPUT = "out_sample"


def spec_of(shapes: Shapes) -> ModelSpec | None:
    """Raises HOST_GRAPH_INVALID, or UnsupportedStructure for a parameter that the family's description does not know."""
    described = family_of(shapes)
    if described is None or not described.for_torch_alone:
        return None
    module = module_of(described.family)
    if module is None:
        return None
    config = module.config_of(shapes)

    def build() -> torch.nn.Module:
        return stepping(module.adapt(module.build(config, shapes), config).eval(), module.forward)

    kept = [build()]
    left_out = re.compile(getattr(module, "LEFT_OUT", "$"))
    # Markers without values only say what a checkpoint is.
    values = [name for name, shape in shapes.items() if 0 not in shape and not left_out.match(name)]
    own = getattr(module, "OWN_NAMES", ())
    sources = {name: Source(name) for name in values if own and name.startswith(own)}
    sources |= {place.name: _source(name, place) for name in values if name not in sources for place in described.places(name)}
    return ModelSpec(
        described.family, config, lambda: kept.pop() if kept else build(), fused_sources(sources, kept[0].state_dict()),
        getattr(module, "REPEATED", None) or tuple(type(kept[0])._repeated_blocks or type(kept[0])._no_split_modules), step,
        fuse_of(module), ports_of(described),
    )  # fmt: skip


def _source(parameter: str, place: Any) -> Source:
    return Source(parameter, None if place.start is None else (place.start, place.length), place.swap)


def ports_of(described: Described) -> Ports:
    inputs = tuple(_port(one) for one in described.inputs())
    sample = next(port for port in inputs if port["name"] == "sample")
    return Ports(inputs, ({**sample, "name": OUTPUT, "shape": list(described.output() or sample["shape"])},))


def _port(one: Any) -> dict[str, Any]:
    port = {"name": one.name, "dtype": "float" if one.float_type else "f32", "shape": list(one.axes)}
    if one.call is not None:
        return {**port, "optional": True, "call": one.call}
    return {**port, "optional": True} if one.optional else port
