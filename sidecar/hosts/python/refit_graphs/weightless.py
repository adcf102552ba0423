"""Tracing without weights. In: a torch module, the canonical name of each of its parameters, example inputs. Out: an ONNX model in
which every parameter is a graph input of that name.

The trace runs in f64: f64 then marks every tensor of the variant's float type, while what diffusers computes in f32 on purpose
(timestep embeddings) stays f32 with explicit casts around it. `variant` turns one trace into the f32 and the f16 graph.

The parameters are handed to the traced call as arguments, so no exporter pass can merge, fold or transpose them: equal values,
biases and shared tensors keep one input each. They share one buffer of zeros, so an SDXL costs no 10 GB here.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    import onnx

OPSET = 18
FLOAT_TYPE = torch.float64
Run = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class DataInput:
    """One tensor that a step brings. `axes`: one name (dynamic) or number (fixed) per dimension; `dtype`: f32 or the variant's float type."""

    name: str
    axes: tuple[str | int, ...]
    float_type: bool = True

    def described(self) -> dict[str, object]:
        """The tensor as graph.json lists it."""
        return {"name": self.name, "dtype": "float" if self.float_type else "f32", "shape": list(self.axes)}


def _zeros(shapes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Contiguous zeros of every shape in one shared buffer, the size of the largest. Fresh zeros are pages that the system has not yet given."""
    buffer = torch.zeros(max(math.prod(shape) for shape in shapes), dtype=FLOAT_TYPE)
    return [buffer[: math.prod(shape)].view(tuple(shape)) for shape in shapes]


class _Call(nn.Module):
    """Runs `module` with parameters from the call's own arguments. The module hides in a tuple, so that it has no parameters of its own here."""

    def __init__(self, module: nn.Module, parameters: Sequence[str], run: Run) -> None:
        super().__init__()
        self._module = (module,)
        self._parameters_in_order = tuple(parameters)
        self._run = run

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        count = len(tensors) - len(self._parameters_in_order)
        module = self._module[0]
        for name, tensor in zip(self._parameters_in_order, tensors[count:], strict=True):
            owner, _, attribute = name.rpartition(".")
            submodule = module.get_submodule(owner)
            # torch.func.functional_call refuses to run under the tracer; the module is built for one trace, so nothing is put back.
            (submodule._parameters if attribute in submodule._parameters else submodule._buffers)[attribute] = tensor
        return self._run(module, *tensors[:count])


@contextmanager
def _plain_functions() -> Iterator[None]:
    """Replaces two torch functions by their formulas: the exporter computes attention's constant scale from shapes, and has no rms_norm."""
    with (
        mock.patch.object(functional, "scaled_dot_product_attention", _attention),
        mock.patch.object(functional, "rms_norm", _rms_norm),
    ):
        yield


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: object) -> torch.Tensor:
    given = {name: option for name, option in options.items() if option not in (None, False, 0.0)}
    if given:
        raise NotImplementedError(f"attention with {sorted(given)} is not exported")
    scores = (query * int(query.shape[-1]) ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value


def _rms_norm(values: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None) -> torch.Tensor:
    """In f32 inside every variant, as torch's kernel does it for f16 values; over the last dimension, the only case there is."""
    wide = values.float()
    normal = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(values.dtype)
    return normal if weight is None else normal * weight


def trace(
    module: nn.Module,
    names: Mapping[str, str],
    inputs: Sequence[DataInput],
    sizes: Mapping[str, int],
    run: Run,
    output: DataInput,
) -> onnx.ModelProto:
    """Exports `module` (on the meta device, any dtype) weightless, f64 standing for the variant's float type.

    `names`: the module's parameter name -> weight name, all parameters (a persistent buffer counts as one). `sizes`: example size of each dynamic axis.
    `run`: (module, data tensors) -> output. Raises ValueError when a parameter of the module has no name.
    """
    state = module.state_dict()
    if missing := state.keys() - names.keys():
        raise ValueError(f"expected a canonical name for every parameter, none for {sorted(missing)[:3]}")
    order = sorted(state, key=lambda name: names[name])
    data = [
        torch.zeros(
            [axis if isinstance(axis, int) else sizes[axis] for axis in item.axes], dtype=FLOAT_TYPE if item.float_type else torch.float32
        )
        for item in inputs
    ]
    weights = _zeros([state[name].shape for name in order])
    dynamic = {item.name: {i: axis for i, axis in enumerate(item.axes) if isinstance(axis, str)} for item in [*inputs, output]}
    buffer = io.BytesIO()
    with torch.no_grad(), _plain_functions(), warnings.catch_warnings():
        # The tracer warns of every Python branch on a shape; the branches that matter are chosen by the example sizes on purpose.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Call(module, order, run).eval(),
            (*data, *weights),
            buffer,
            input_names=[*(item.name for item in inputs), *(names[name] for name in order)],
            output_names=[output.name],
            dynamic_axes=dynamic,
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )
    import onnx  # only the exporter needs it; the torch host imports this module for its tables

    return onnx.load_from_string(buffer.getvalue())
