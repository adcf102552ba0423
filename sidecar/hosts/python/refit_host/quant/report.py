"""What quantising costs in accuracy: error of the weights, and of one denoiser call on a fixed input against the unquantised base."""

from __future__ import annotations

import logging
import math
import re
from functools import partial
from typing import Any, Sequence

import torch
from refit_graphs.descriptions import typical
from torch import Tensor

from ..distance import relative_error
from ..models.spec import ModelSpec
from .base import QuantBase
from .formats import FLOAT
from .placing import QuantEngine

log = logging.getLogger("refit_host")
# A small picture: the error hardly depends on its size, the time does. Sides fit three halvings.
SIZES = {"batch": 1, "height": 16, "width": 16, "tokens": 77, "frames": 1, "image_tokens": 16}
# Numbers that a step brings where the family's description names none: a training step; guidance as users set it.
NUMBERS = {"timestep": 500.0, "guidance": 4.0}


def probe_inputs(family: str, ports: Sequence[dict[str, Any]], device: torch.device) -> dict[str, Tensor]:
    """One fixed input per port that every step fills; the same on every computer."""
    make = torch.Generator().manual_seed(0)
    out = {}
    for port in (port for port in ports if not port.get("optional")):
        name, shape = port["name"], [SIZES.get(axis, 1) if isinstance(axis, str) else axis for axis in port["shape"]]
        dtype = FLOAT if port["dtype"] == "float" else {"i64": torch.int64, "f32": torch.float32}[port["dtype"]]
        if name in NUMBERS:
            number = typical(family, name)
            out[name] = torch.full(shape, NUMBERS[name] if number is None else number, device=device).to(dtype)
        else:
            out[name] = torch.randn(shape, generator=make).to(device, dtype)
    return out


def base_module(spec: ModelSpec, base: QuantBase, device: torch.device) -> torch.nn.Module:
    """The unquantised network without a copy of its weights: each layer takes its values from the base while it runs."""
    module = spec.build().eval().requires_grad_(False)
    for path, child in module.named_modules():
        mine = {
            leaf: spec.sources[name]
            for leaf in (*child._parameters, *child._buffers)
            if (name := f"{path}.{leaf}".lstrip(".")) in spec.sources
        }
        if mine:
            empty = {leaf: getattr(child, leaf) for leaf in mine}
            child.register_forward_pre_hook(partial(_take, mine, base, device))
            child.register_forward_hook(partial(_drop, empty))
    return module


def _take(sources: dict, base: QuantBase, device: torch.device, child: torch.nn.Module, given: object) -> None:
    for leaf, source in sources.items():
        value = base.value(base.layout.by_name[source.parameter])
        if source.swap_halves:
            value = torch.cat([value[len(value) // 2 :], value[: len(value) // 2]])
        if source.rows is not None:
            value = value[source.rows[0] : source.rows[0] + source.rows[1]]
        _set(child, leaf, value.reshape(getattr(child, leaf).shape))


def _drop(empty: dict[str, Tensor], child: torch.nn.Module, given: object, output: object) -> None:
    for leaf, value in empty.items():
        _set(child, leaf, value)


def _set(child: torch.nn.Module, leaf: str, value: Tensor) -> None:
    if leaf in child._parameters:
        child._parameters[leaf] = torch.nn.Parameter(value, requires_grad=False)
    else:
        child._buffers[leaf] = value


def output_error(engine: QuantEngine, family: str, ports: Sequence[dict[str, Any]]) -> float:
    """||quantised - base|| / ||base|| of one call without adapters."""
    weights, inputs = engine.weights, probe_inputs(family, ports, engine.weights.device)
    assert weights.base is not None
    expected = engine.spec.forward(base_module(engine.spec, weights.base, weights.device), inputs)
    return relative_error(engine.spec.forward(engine.make(), inputs), expected)


def weight_error(engine: QuantEngine) -> float:
    """The same of all quantised weights together."""
    wrong = right = 0.0
    for expected, got in engine.weights.coded_values():
        wrong += float((got - expected).square().sum(dtype=torch.float64))
        right += float(expected.square().sum(dtype=torch.float64))
    return math.sqrt(wrong / right) if right else 0.0


def left_whole(engine: QuantEngine) -> list[str]:
    """Kinds of matrices that are not quantised: names with numbers as *."""
    stored, slots = engine.weights.stored, engine.weights.layout.slots
    return sorted({re.sub(r"\d+", "*", slot.name) for slot in slots if slot.index not in stored.coded and len(slot.shape) > 1})


def report(engine: QuantEngine, family: str, ports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the host says about a quantised engine: in the answer to `load`, in `status`, and in its log."""
    whole = left_whole(engine)
    # With the base in a file this call reads the whole checkpoint once more.
    error = output_error(engine, family, ports)
    found = {
        "format": engine.form.name, "way": engine.way, "layers": len(engine.layers), "whole": whole, "weightError": weight_error(engine),
        "outputError": error if math.isfinite(error) else None,
    }  # fmt: skip
    log.info("%s: %d layers by %s; error against %s: weights %.2g, output %.2g; left whole: %s", engine.form.name, len(engine.layers), engine.way,
             str(FLOAT).removeprefix("torch."), found["weightError"], error, ", ".join(whole))  # fmt: skip
    return found
