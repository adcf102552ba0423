"""A module that steps on an engine's weights: inputs checked and moved, the fastest ready tier called, outputs handed back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Mapping

import torch
from torch import Tensor

from ..failure import HostFailure, expect
from ..host.bundle import Bundle
from ..models.spec import ModelSpec
from .graphs import GraphedStep

if TYPE_CHECKING:
    from ..host.host import Host


class TorchModel:
    def __init__(self, spec: ModelSpec, make: Callable[[], torch.nn.Module], bundle: Bundle, dtype: torch.dtype, host: "Host") -> None:
        """`make` gives another module over the same weights."""
        self._spec = spec
        self._bundle = bundle
        self._dtype = dtype
        self._device = host.device
        self._module = make()
        self._run: Callable[[Mapping[str, Tensor]], Tensor] = lambda inputs: spec.forward(self._module, inputs)
        self._graphs = GraphedStep(self._run, host.device) if host.device.type == "cuda" and host.options.tier != "eager" else None

    def step(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raises HOST_INPUT_INVALID, HOST_STEP_FAILED, or lets an out-of-memory error through."""
        ready = self._checked(inputs)
        try:
            output = (self._graphs or self._run)(ready)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise HostFailure("HOST_STEP_FAILED", f"the engine failed while it ran a step: {str(error).splitlines()[0]}. The weights are unchanged.") from error
        return {self._bundle.outputs[0]["name"]: output}

    def _checked(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Inputs by the graph's table, on the device, in its dtypes. One name stands for one size throughout a step."""
        ports = [*self._bundle.inputs, *(self._bundle.residuals if "mid_residual" in inputs else ())]
        names = {port["name"] for port in ports}
        expect(inputs.keys() == names, "HOST_INPUT_INVALID", f"expected the inputs {', '.join(sorted(names))}", got=sorted(inputs)[:40])
        sizes: dict[str, int] = {}
        out = {}
        for port in ports:
            value, axes = inputs[port["name"]], port["shape"]
            fits = value.dim() == len(axes) and all(
                size > 0 and sizes.setdefault(axis, size) == size if isinstance(axis, str) else size == axis for axis, size in zip(axes, value.shape)
            )
            expect(fits, "HOST_INPUT_INVALID", f"{port['name']}: expected the shape {axes}, got {list(value.shape)}", sizes=sizes)
            kind = {"float": self._dtype, "f32": torch.float32, "i64": torch.int64}.get(port["dtype"], torch.float32)
            out[port["name"]] = value.to(self._device, kind)
        return out

    def release(self) -> None:
        """Gives back what graphs hold; the module goes with its owner."""
        if self._graphs is not None:
            self._graphs.release()
