"""A weightless graph as TensorRT wants it: parameters become initialisers whose values are nowhere.

TensorRT tells weights apart by their address, so each gets its own piece of one anonymous, never written mapping: pages of zeros
that the system gives out without taking memory for them. A stripped engine keeps none of them.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping

import torch
from refit_host.failure import HostFailure, expect
from refit_host.host.bundle import Row

from .binding import Binding

ALIGN = 256
# ONNX's numbers of element types.
FLOAT_TYPES = {1: torch.float32, 10: torch.float16, 16: torch.bfloat16}


@dataclass(frozen=True)
class Weight:
    """One weight of the graph: its bytes in an engine's memory are row-major, in the graph's dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Source:
    """An ONNX model with initialisers that hold no values yet. `ports`: dtype of every other input and of the outputs."""

    model: bytes
    weights: tuple[Weight, ...]
    ports: Mapping[str, torch.dtype]


def _declared(value: Any) -> tuple[tuple[int, ...], int]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim), value.type.tensor_type.elem_type


def read_source(file: Path, rows: Iterable[Row]) -> Source:
    """Turns the parameters of a weightless model into initialisers. Raises HOST_GRAPH_INVALID."""
    import onnx

    by_name = {row.weight: row for row in rows}
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # onnx raises protobuf's own classes
        raise HostFailure(
            "HOST_GRAPH_INVALID", f"the graph's model cannot be read ({type(error).__name__}); export the graph again"
        ) from error
    expect(len(model.graph.initializer) == 0, "HOST_GRAPH_INVALID", "expected a weightless graph, this one holds weights; export it again")
    weights, data, ports = [], [], {}
    for value in [*model.graph.input, *model.graph.output]:
        shape, kind = _declared(value)
        row = by_name.pop(value.name, None)
        if row is None:
            ports[value.name] = FLOAT_TYPES.get(kind, torch.int64)
            data.append(value)
            continue
        expect(shape == row.shape and kind in FLOAT_TYPES, "HOST_GRAPH_INVALID",
               f"{value.name}: the model's input does not fit the refit map; export the graph again", parameter=row.parameter)  # fmt: skip
        weight = Weight(value.name, shape, FLOAT_TYPES[kind])
        weights.append(weight)
        tensor = model.graph.initializer.add(name=weight.name, data_type=kind, dims=shape, data_location=onnx.TensorProto.EXTERNAL)
        for key, text in (("location", "none"), ("offset", "0"), ("length", str(weight.nbytes))):
            tensor.external_data.add(key=key, value=text)
    expect(
        not by_name, "HOST_GRAPH_INVALID", f"the model lacks {next(iter(by_name), '')}, which the refit map lists; export the graph again"
    )
    inputs = [value for value in data if value in model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return Source(model.SerializeToString(), tuple(weights), ports)


class Nowhere:
    """Addresses for values that no engine will keep."""

    def __init__(self, weights: Iterable[Weight]) -> None:
        self._at: dict[str, int] = {}
        total = 0
        for weight in weights:
            self._at[weight.name] = total
            total += (weight.nbytes + ALIGN - 1) // ALIGN * ALIGN
        self._mapping = mmap.mmap(-1, max(total, 1))
        self._base = torch.frombuffer(self._mapping, dtype=torch.uint8).data_ptr()

    def __getitem__(self, name: str) -> int:
        return self._base + self._at[name]


def parse(binding: Binding, network: Any, source: Source, addresses: Mapping[str, int] | Nowhere) -> Any:
    """Fills `network` from the model; returns the parser, which must live as long as the network. Raises HOST_BUILD_FAILED."""
    parser = binding.trt.OnnxParser(network, binding.logger)
    expect(hasattr(parser, "load_initializer"), "HOST_LIBRARY_MISSING",
           f"{binding.name} {binding.version} cannot take weights apart from the model; update it")  # fmt: skip
    done = parser.load_model_proto(source.model)
    done = done and all(parser.load_initializer(weight.name, addresses[weight.name], weight.nbytes) for weight in source.weights)
    if not done or not parser.parse_model_proto():
        errors = [parser.get_error(i).desc() for i in range(min(parser.num_errors, 4))]
        raise HostFailure(
            "HOST_BUILD_FAILED", f"{binding.name} {binding.version} cannot read the graph: {'; '.join(errors)[:400] or binding.said()}"
        )
    return parser
