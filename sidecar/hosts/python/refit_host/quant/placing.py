"""A quantised engine's weights and modules: which layers are coded, where everything lies, how a step multiplies."""

from __future__ import annotations

import torch

from ..failure import expect
from ..files.checkpoint import CheckpointSource
from ..models.bind import bind, layout_of
from ..models.spec import ModelSpec, Shapes
from ..weights.stream import Ring
from .base import file_codes, rotations
from .bind import Held, replace_linears
from .choose import quantised_layers
from .formats import FLOAT, FORMATS
from .linear import best_way
from .weights import QuantWeights


class QuantEngine:
    """`weights` has no values yet. `way`: how products are made (quant/linear.py)."""

    def __init__(
        self, spec: ModelSpec, shapes: Shapes, name: str, source: CheckpointSource, device: torch.device, ring: Ring, *, channels_last: bool, room: int, merge: str,
        rounding: str = "nearest",
    ) -> None:  # fmt: skip
        """Raises HOST_OUT_OF_MEMORY when the weights need more than `room` bytes, HOST_PRECISION_UNSUPPORTED when no layer can be quantised."""
        self.spec, self.form = spec, FORMATS[name]
        of_file = file_codes(self.form, source)
        self.layers = quantised_layers(spec.build(), spec, shapes, self.form, frozenset(of_file))
        expect(
            bool(self.layers), "HOST_PRECISION_UNSUPPORTED", f"no layer of this structure can be held in {name}; use bf16", weightDtype=name
        )
        self.way = best_way(self.form, device, FLOAT)
        parameters = {source.parameter for source in self.layers.values()}
        rotated = {parameter: turn for parameter, turn in rotations(self.form, source).items() if parameter in parameters}
        layout = layout_of(spec, shapes, FLOAT, channels_last=channels_last, rotated=rotated)
        needed = QuantWeights.needed_bytes(layout, parameters, self.form)
        expect(needed <= room, "HOST_OUT_OF_MEMORY", f"the {name} weights do not fit on the device, and quantised weights are not streamed: let the UI unload its "
               "models, raise --vram-mib, or use bf16, which is streamed", bytes=needed, freeBytes=room)  # fmt: skip
        self.weights = QuantWeights(layout, parameters, self.form, device, ring, merge=merge, way=self.way, rounding=rounding)

    def make(self) -> torch.nn.Module:
        """Another module over the weights, without branches."""
        return self._module(branched=False)

    def make_branched(self) -> torch.nn.Module:
        """Another module over the weights and the branches beside them: of the present variant."""
        return self._module(branched=True)

    def _module(self, *, branched: bool) -> torch.nn.Module:
        weights = self.weights

        def held(parameter: str) -> Held:
            slot = weights.slot(parameter)
            return weights.stored.parts(slot, weights.live), slot.rotation, weights.branches.held.get(slot.index) if branched else None

        module = replace_linears(self.spec.build(), self.layers, held, self.form, self.way)
        return bind(module, self.spec, self.weights.stored.whole, self.weights.live)
