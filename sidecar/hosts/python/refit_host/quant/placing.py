"""A quantised engine's weights and modules: which layers are coded, where everything lies, how a step multiplies."""

from __future__ import annotations

import torch

from ..failure import expect
from ..models.bind import bind, layout_of
from ..models.spec import ModelSpec, Shapes
from ..weights.stream import Ring
from .bind import replace_linears
from .choose import quantised_layers
from .formats import FLOAT, FORMATS
from .linear import best_way
from .weights import QuantWeights


class QuantEngine:
    """`weights` has no values yet. `way`: how products are made (quant/linear.py)."""

    def __init__(self, spec: ModelSpec, shapes: Shapes, name: str, device: torch.device, ring: Ring, *, channels_last: bool, room: int, merge: str) -> None:
        """Raises HOST_OUT_OF_MEMORY when the weights need more than `room` bytes, HOST_PRECISION_UNSUPPORTED when no layer can be quantised."""
        self.spec, self.form = spec, FORMATS[name]
        self.layers = quantised_layers(spec.build(), spec, shapes, self.form)
        expect(self.layers, "HOST_PRECISION_UNSUPPORTED", f"no layer of this structure can be held in {name}; use bf16", weightDtype=name)
        self.way = best_way(self.form, device, FLOAT)
        layout = layout_of(spec, shapes, FLOAT, channels_last=channels_last)
        parameters = {source.parameter for source in self.layers.values()}
        needed = QuantWeights.needed_bytes(layout, parameters, self.form)
        expect(needed <= room, "HOST_OUT_OF_MEMORY", f"the {name} weights do not fit on the device, and quantised weights are not streamed: let the UI unload its "
               "models, raise --vram-mib, or use bf16, which is streamed", bytes=needed, freeBytes=room)  # fmt: skip
        self.weights = QuantWeights(layout, parameters, self.form, device, ring, merge=merge)

    def make(self) -> torch.nn.Module:
        """Another module over the weights."""
        stored, live = self.weights.stored, self.weights.live
        module = self.spec.build()
        replace_linears(module, self.layers, lambda name: stored.parts(self.weights.slot(name), live), self.form, self.way)
        return bind(module, self.spec, stored.whole, live)
