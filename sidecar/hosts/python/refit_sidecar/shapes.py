"""Ranges of sizes that a call may have, in the form of torch.export's `dynamic_shapes`. In: nested Dim ranges. Out: whether a call lies inside them, and
which dimension does not. Never: a guess for arguments that are not described.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from torch import Tensor


class RangeError(ValueError):
    """A description that does not fit the form; the text says where."""


@dataclass(frozen=True)
class Ranges:
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @staticmethod
    def of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Ranges":
        """Raises RangeError."""
        if not isinstance(args, (tuple, list)) or not isinstance(kwargs, Mapping):
            raise RangeError("expected a tuple for the positional arguments and a dict for the named ones; () and {} when there are none")
        for place, item in (
            *((f"args[{index}]", item) for index, item in enumerate(args)),
            *((f"kwargs[{key!r}]", item) for key, item in kwargs.items()),
        ):
            _check(item, place)
        return Ranges(tuple(args), dict(kwargs))

    def outside(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """What lies outside of the ranges, in words; None when all of a call lies inside. Arguments that are not described are free."""
        for index, (wanted, given) in enumerate(zip(self.args, args)):
            found = _outside(wanted, given, f"args[{index}]")
            if found is not None:
                return found
        for key, wanted in self.kwargs.items():
            found = _outside(wanted, kwargs.get(key), key)
            if found is not None:
                return found
        return None


def _check(item: Any, place: str) -> None:
    if item is None:
        return
    if isinstance(item, Mapping):
        for key, inner in item.items():
            if isinstance(key, int):
                if inner is not None and not isinstance(inner, int) and not hasattr(inner, "min") and not _auto(inner):
                    raise RangeError(f"{place}, dimension {key}: expected a torch.export.Dim, a number or None, got {type(inner).__name__}")
            else:
                _check(inner, f"{place}[{key!r}]")
    elif isinstance(item, (tuple, list)):
        for index, inner in enumerate(item):
            if isinstance(inner, (Mapping, tuple, list)):
                _check(inner, f"{place}[{index}]")
    else:
        raise RangeError(f"{place}: expected None, a dict of dimensions or a nested dict or list, got {type(item).__name__}")


def _auto(dim: Any) -> bool:
    """Dim.AUTO and Dim.DYNAMIC: any size."""
    return type(dim).__name__ in ("_DimHint", "_DimHintType")


def limits(dim: Any) -> tuple[int, int] | None:
    """(smallest, largest) of a Dim, a Dim times a number, or a number; None where any size will do."""
    if dim is None or _auto(dim):
        return None
    if isinstance(dim, int):
        return dim, dim
    root, apply = getattr(dim, "root", None), getattr(dim, "fn", None)
    if root is not None and apply is not None and hasattr(root, "min"):
        return int(apply(root.min)), int(apply(root.max))
    return int(dim.min), int(dim.max)


def _outside(wanted: Any, given: Any, place: str) -> str | None:
    if wanted is None or given is None:
        return None
    if isinstance(given, Tensor):
        pairs = wanted.items() if isinstance(wanted, Mapping) else enumerate(wanted)
        for axis, dim in pairs:
            span = limits(dim)
            if span is None:
                continue
            size = given.shape[axis]
            if not span[0] <= size <= span[1]:
                return f"{place}, dimension {axis}: {size} is outside of {span[0]} to {span[1]}"
        return None
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        inner = ((wanted[key], given.get(key), f"{place}[{key!r}]") for key in wanted)
    elif isinstance(wanted, (tuple, list)) and isinstance(given, (tuple, list)):
        inner = ((one, other, f"{place}[{index}]") for index, (one, other) in enumerate(zip(wanted, given)))
    else:
        return None
    return next((found for row in inner if (found := _outside(*row)) is not None), None)
