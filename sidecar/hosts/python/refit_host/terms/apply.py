"""Applies terms to a parameter's base value, in order, as ComfyUI does: f32 throughout, base-dependent terms see the patched value."""

from __future__ import annotations

from typing import Callable, Mapping

import torch
from torch import Tensor

from ..failure import HostFailure
from .deltas import ADDITIVE, boft, oft
from .term import Term

# ComfyUI adds the f32 machine epsilon to DoRA's norm.
NORM_EPSILON = torch.finfo(torch.float32).eps


def _swap(delta: Tensor, term: Term) -> Tensor:
    return torch.cat([half for half in reversed(delta.chunk(2, dim=0))]) if term.swap_halves else delta


def _dora(value: Tensor, delta: Tensor, magnitude: Tensor, strength: float) -> Tensor:
    """value + s (V - value), V = (value + delta) m / n. n: row norms of `value`, or column norms of value + delta, by m's shape."""
    changed = value + delta
    if magnitude.shape[0] == value.shape[0]:
        norm = value.reshape(value.shape[0], -1).norm(dim=1).reshape(-1, *[1] * (value.dim() - 1))
    else:
        norm = changed.transpose(0, 1).reshape(value.shape[1], -1).norm(dim=1).reshape(1, -1, *[1] * (value.dim() - 2))
    changed = changed * (magnitude / (norm + NORM_EPSILON))
    return value + strength * (changed - value)


def _pad(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    out = value.new_zeros(shape)
    out[tuple(slice(0, dim) for dim in value.shape)] = value
    return out


def _apply(value: Tensor, term: Term, factors: Mapping[str, Tensor], strength: float) -> Tensor:
    if term.kind == "set":
        return factors["value"].reshape(value.shape).clone()
    if term.kind == "dense":
        return value + _swap(factors["value"].reshape(value.shape), term) * strength
    if term.kind == "channelScale":
        width = factors["value"].reshape(-1)
        lead = 0 if term.axis == "rows" else 1
        return value + value * width.reshape([-1 if d == lead else 1 for d in range(value.dim())]) * strength
    constraint = term.constraint or 0.0
    if term.kind == "orthogonal":
        if term.variant == "oft":
            delta, factor, tail = oft(value, factors["blocks"], constraint), strength * strength, constraint
        else:
            delta = boft(value, factors["blocks"], constraint, strength, factors.get("rescale"))
            factor, tail = strength, constraint
        if term.variant == "oft" and "dora" in factors:
            delta = delta * strength
    else:
        delta, factor, tail = ADDITIVE[term.kind](value, factors), strength * term.scale, term.scale
    if "dora" in factors:
        return _dora(value, _swap(delta * tail, term), factors["dora"], strength)
    return value + _swap(delta * factor, term)


def apply_terms(
    base: Tensor, terms: list[tuple[Term, float]], factors_of: Callable[[Term], Mapping[str, Tensor]]
) -> Tensor:
    """Merged value of one parameter, f32. `base`: f32, not modified. `terms`: in stack order with strengths.

    `factors_of` gives f32 factors on base's device (`dora` for the magnitude). Raises HOST_SHAPE_MISMATCH naming the parameter.
    """
    value = base.clone()
    for term, strength in terms:
        try:
            if term.pad_to is not None and term.pad_to != tuple(value.shape):
                value = _pad(value, term.pad_to)
            if term.slice is None:
                value = _apply(value, term, factors_of(term), strength)
            else:
                start, length = term.slice
                if start + length > value.shape[0]:
                    raise RuntimeError(f"rows {start}..{start + length} of {value.shape[0]}")
                part = value[start : start + length]
                value[start : start + length] = _apply(part, term, factors_of(term), strength)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise HostFailure(
                "HOST_SHAPE_MISMATCH", f"{term.parameter}: a {term.kind} term does not fit {list(value.shape)}: {reason}",
                {"parameter": term.parameter, "kind": term.kind},
            ) from error  # fmt: skip
    return value
