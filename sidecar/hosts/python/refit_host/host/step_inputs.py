"""Checks the tensors of a step against the graph's table. They are neither moved nor converted here."""

from __future__ import annotations

from typing import Any, Mapping

from torch import Tensor

from ..failure import expect
from .bundle import Bundle


def has_residuals(inputs: Mapping[str, Tensor]) -> bool:
    """Whether a step brings ControlNet residuals."""
    return "mid_residual" in inputs


def check_inputs(bundle: Bundle, inputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """The ports that the step fills, optional ones only where it brings them. One axis name stands for one size throughout. Raises HOST_INPUT_INVALID."""
    every = [*bundle.inputs, *(bundle.residuals if has_residuals(inputs) else ())]
    # Another call than a step (a run's words) is told by its inputs.
    other = next((port["call"] for port in every if port["name"] in inputs and "call" in port), None)
    known = [port for port in every if port.get("call") == other]
    ports = [port for port in known if port["name"] in inputs or (not port.get("optional") if other is None else port["name"] == other)]
    names = {port["name"] for port in ports}
    expect(inputs.keys() == names, "HOST_INPUT_INVALID", f"expected the inputs {', '.join(sorted(names))}", got=sorted(inputs)[:40])
    sizes: dict[str, int] = {}
    for port in ports:
        value, axes = inputs[port["name"]], port["shape"]
        fits = value.dim() == len(axes) and all(
            size > 0 and sizes.setdefault(axis, size) == size if isinstance(axis, str) else size == axis
            for axis, size in zip(axes, value.shape)
        )
        expect(fits, "HOST_INPUT_INVALID", f"{port['name']}: expected the shape {axes}, got {list(value.shape)}", sizes=sizes)
    return ports
