"""What a family's builder hands to the bundle: everything a trace and graph.json need. Holds no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .descriptions import Described
from .errors import UnsupportedStructure
from .header import Shapes
from .weightless import DataInput, Run


@dataclass(frozen=True)
class Target:
    """A tensor of the diffusers module that a canonical parameter feeds: whole, or rows [start, start + length) of it.

    `swap`: the module's rows are the parameter's with halves exchanged (diffusers keeps scale before shift, the checkpoint shift before scale).
    """

    module_name: str
    start: int | None = None
    length: int | None = None
    swap: bool = False


@dataclass(frozen=True)
class Exportable:
    """One structure, ready to be traced. `weights`: module tensor -> graph input; `refit_map`: rows of graph.json."""

    family: str
    file_stem: str
    config: Mapping[str, Any]
    build: Callable[[], nn.Module]
    weights: Mapping[str, str]
    inputs: tuple[DataInput, ...]
    residuals: tuple[DataInput, ...]
    output: DataInput
    trace_sizes: Mapping[str, int]
    run: Run
    refit_map: list[dict[str, Any]]
    precisions: tuple[str, ...] = ("fp32", "fp16")


def connect(
    shapes: Shapes, targets: Callable[[str, tuple[int, ...]], Iterable[Target]], module: nn.Module
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Returns (module tensor -> graph input, refit map), or raises UnsupportedStructure when header and module differ anywhere."""
    built = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    weights: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    odd: list[str] = []
    for parameter in sorted(shapes):
        shape = shapes[parameter]
        for target in targets(parameter, shape):
            span = None if target.start is None or target.length is None else (target.start, target.length)
            wanted = shape if span is None else (span[1], *shape[1:])
            if built.pop(target.module_name, None) != wanted:
                odd.append(f"{parameter} {wanted}")
            weight = parameter if span is None else f"{parameter}[{span[0]}:{sum(span)}]"
            weights[target.module_name] = weight
            part = None if span is None else {"start": span[0], "length": span[1]}
            rows.append(_row(parameter, weight, wanted, part, target.swap))
    odd += [f"{name} (missing in the header)" for name in built]
    if odd:
        raise UnsupportedStructure(
            "expected the network that the header describes, diffusers built another one: "
            f"{len(odd)} tensors differ, first {odd[0]}: this structure is not supported"
        )
    return weights, rows


def described_targets(described: Described) -> Callable[[str, tuple[int, ...]], list[Target]]:
    """Where canonical parameters go, as the family's description has it."""
    return lambda name, _shape: [Target(place.name, place.start, place.length, place.swap) for place in described.places(name)]


def described_inputs(described: Described) -> tuple[DataInput, ...]:
    """The step's inputs, as the family's description has them. A graph has none that may be left out."""
    return tuple(DataInput(one.name, one.axes, one.float_type) for one in described.inputs() if not one.optional and one.call is None)


def _row(parameter: str, weight: str, shape: tuple[int, ...], part: dict[str, int] | None, swap: bool) -> dict[str, Any]:
    return {
        "parameter": parameter,
        "weight": weight,
        "shape": list(shape),
        "slice": part,
        "swapHalves": swap,
        "layout": "as-is",
        "refittable": True,
    }


def transformer(
    family: str,
    shapes: Shapes,
    config: dict[str, Any],
    build: Callable[[dict[str, Any]], nn.Module],
    output: tuple[str | int, ...],
    trace_sizes: Mapping[str, int],
    run: Run,
) -> Exportable:
    """Of a family whose parameters and inputs its description has. `output`: axes of its one output."""
    described = Described(family, shapes)
    weights, refit_map = connect(shapes, described_targets(described), build(config))
    return Exportable(
        family=family,
        file_stem="transformer",
        config=config,
        build=lambda: build(config),
        weights=weights,
        inputs=described_inputs(described),
        residuals=(),
        output=DataInput("out_sample", output),
        trace_sizes=trace_sizes,
        run=run,
        refit_map=refit_map,
        precisions=("fp32", "fp16", "bf16"),
    )
