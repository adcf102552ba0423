"""Applies terms to a parameter's base value, in order, as ComfyUI does: f32 throughout, base-dependent terms see the patched value."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..failure import HostFailure
from .deltas import ADDITIVE, boft, oft
from .term import Term

# A tuple whose first item is a Term; the rest belongs to the caller.
Row = tuple[Any, ...]
# ComfyUI adds the f32 machine epsilon to DoRA's norm.
NORM_EPSILON = torch.finfo(torch.float32).eps


def _swap(delta: Tensor, term: Term) -> Tensor:
    return torch.cat([half for half in reversed(delta.chunk(2, dim=0))]) if term.swap_halves else delta


def _dora(value: Tensor, change: Tensor, magnitude: Tensor, strength: float, merged: bool) -> Tensor:
    """value + s (V m / n - value), V = value + change.

    A magnitude with as many rows as the value is on the output axis: n are the row norms of the value before the change (of V when
    `merged`). Otherwise n are the norms of V over all dimensions but 1.
    """
    changed = value + change
    if magnitude.shape[0] == value.shape[0]:
        norm = (changed if merged else value).reshape(value.shape[0], -1).norm(dim=1).reshape(-1, *[1] * (value.dim() - 1))
    else:
        norm = changed.transpose(0, 1).reshape(value.shape[1], -1).norm(dim=1).reshape(1, -1, *[1] * (value.dim() - 2))
    changed = changed * (magnitude / (norm + NORM_EPSILON))
    return changed if strength == 1 else value + strength * (changed - value)


def _pad(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    out = value.new_zeros(shape)
    out[tuple(slice(0, dim) for dim in value.shape)] = value
    return out


def _dense(given: Tensor, value: Tensor) -> Tensor:
    if given.shape != value.shape:
        raise RuntimeError(f"the delta has the shape {list(given.shape)}")
    return given


def _change(value: Tensor, term: Term, factors: Mapping[str, Tensor], strength: float) -> tuple[Tensor, float]:
    """An unscaled change and its scale, for the value as patched so far."""
    if term.kind == "dense":
        return _dense(factors["value"], value), 1.0
    if term.kind == "channelScale":
        lead = 0 if term.axis == "rows" else 1
        return value * factors["value"].reshape([-1 if d == lead else 1 for d in range(value.dim())]), 1.0
    if term.kind == "orthogonal":
        # With DoRA the constraint stands in for the scale: ComfyUI hands its alpha to the common tail.
        constraint, rescale = term.constraint or 0.0, factors.get("rescale")
        scale = 1.0 if term.dora is None else constraint
        if term.variant == "oft":
            # ComfyUI multiplies by the strength here and again in the tail.
            return oft(value, factors["blocks"], constraint, 1.0 if term.strength_once else strength, rescale), scale
        return boft(value, factors["blocks"], constraint, strength, rescale), scale
    return ADDITIVE[term.kind](value, factors), term.scale


def _apply(value: Tensor, term: Term, factors: Mapping[str, Tensor], strength: float) -> Tensor:
    if term.kind == "set":
        return factors["value"].expand_as(value).clone()
    change, scale = _change(value, term, factors, strength)
    change = _swap(change, term)
    if term.dora is not None:
        return _dora(value, change * scale, factors["dora"], strength, term.dora_merged)
    return value + change * (strength * scale)


def apply_terms(base: Tensor, terms: Sequence[tuple[Row, float]], factors_of: Callable[[Row], Mapping[str, Tensor]]) -> Tensor:
    """Merged value of one parameter, f32. `base`: f32, not modified. `terms`: rows (a tuple that starts with the Term) in stack order,
    each with its strength.

    `factors_of` gives a row's f32 factors on base's device (`dora` for the magnitude). Raises HOST_SHAPE_MISMATCH naming the parameter.
    """
    value = base.clone()
    for row, strength in terms:
        term = row[0]
        try:
            if term.pad_to is not None and term.pad_to != tuple(value.shape):
                value = _pad(value, term.pad_to)
            if term.slice is None:
                value = _apply(value, term, factors_of(row), strength)
            else:
                start, length = term.slice
                if start + length > value.shape[0]:
                    raise RuntimeError(f"rows {start} to {start + length} lie outside it")
                part = value[start : start + length]
                value[start : start + length] = _apply(part, term, factors_of(row), strength)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise HostFailure(
                "HOST_SHAPE_MISMATCH",
                f"{term.parameter}: a {term.kind} term does not fit the shape {list(value.shape)}: {reason}. The adapter belongs to another structure.",
                {"parameter": term.parameter, "kind": term.kind},
            ) from error  # fmt: skip
    return value
