"""Matrices of an engine as codes and scales (fp8, int8, nvfp4). In: f32 values of a refit. Out: layers that multiply codes. Never: a code that was coded
before; every write starts from the module's own value and is coded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import torch
from refit_host.failure import HostFailure
from refit_host.models.spec import ModelSpec, Source
from refit_host.quant.bind import replace_linears
from refit_host.quant.choose import quantised_layers
from refit_host.quant.formats import FLOAT, FORMATS
from refit_host.quant.linear import best_way
from refit_host.quant.stored import Stored
from refit_host.weights.layout import Layout
from torch import Tensor, nn

from .snapshot import NotServed, Snapshot


@dataclass(frozen=True)
class Coded:
    """`layers`: name of each coded linear layer -> its weight."""

    form: str
    layers: Mapping[str, Source]
    layout: Layout
    stored: Stored
    live: Tensor

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.layout.by_name)

    def put(self, name: str, value: Tensor) -> None:
        """`value`: f32 [rows, cols]."""
        self.stored.put(self.layout.by_name[name], self.live, value)

    def bind(self, module: nn.Module) -> nn.Module:
        """The chosen layers of an engine's module, over the codes."""
        form = FORMATS[self.form]
        return replace_linears(
            module,
            self.layers,
            lambda name: (self.stored.parts(self.layout.by_name[name], self.live), 0, None),
            form,
            best_way(form, self.live.device, FLOAT),
        )


def coded_of(module: nn.Module, snapshot: Snapshot, form: str, device: torch.device) -> Coded:
    """Room for the codes of the large products in the module's repeated blocks. `module`: without PEFT's layers. Raises NotServed when there are none."""
    shapes = {name: tuple(tensor.shape) for name, tensor in snapshot.tensors.items()}
    sources = {name: Source(name) for name in snapshot.parameters}
    spec = ModelSpec("module", {}, lambda: module, sources, _blocks(module), lambda *_: torch.empty(0))
    try:
        layers = quantised_layers(module, spec, shapes, FORMATS[form])
    except HostFailure as error:
        raise NotServed(error.message) from error
    if not layers:
        raise NotServed(f'no layer of it can be held in {form}; use precision="bf16"')
    layout = Layout.build({source.parameter: shapes[source.parameter] for source in layers.values()}, FLOAT)
    stored = Stored.build(layout, layout.by_name, FORMATS[form])
    return Coded(form, layers, layout, stored, torch.empty(stored.nbytes, dtype=torch.uint8, device=device))


def _blocks(module: nn.Module) -> tuple[str, ...]:
    """Classes that the model repeats: diffusers lists them; else every class in a ModuleList."""
    listed = tuple(getattr(type(module), "_repeated_blocks", None) or ())
    if listed:
        return listed
    return tuple({type(child).__name__ for each in module.modules() if isinstance(each, nn.ModuleList) for child in each})
