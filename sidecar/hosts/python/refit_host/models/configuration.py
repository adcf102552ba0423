"""A diffusers configuration read off a checkpoint's shapes. What does not fit is named."""

from __future__ import annotations

import re
from typing import Sequence

from ..failure import HostFailure
from .spec import Shapes


def need(shapes: Shapes, name: str) -> tuple[int, ...]:
    """Shape of a parameter. Raises HOST_GRAPH_INVALID when the checkpoint lacks it."""
    shape = shapes.get(name)
    if shape is None:
        raise HostFailure(
            "HOST_GRAPH_INVALID",
            f"expected the parameter {name}, which this checkpoint lacks: its structure is not supported",
            {"parameter": name},
        )
    return tuple(shape)


def count(shapes: Shapes, stem: str) -> int:
    """How many blocks `stem.0`, `stem.1`, ... there are."""
    found = (re.match(rf"{re.escape(stem)}\.(\d+)\.", name) for name in shapes)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def even_axes(head: int, parts: Sequence[int]) -> tuple[int, ...]:
    """Channels of a head divided in the proportion of `parts`, each even. Raises HOST_GRAPH_INVALID when that cannot be."""
    whole = sum(parts)
    sizes = [head * part // whole for part in parts]
    if any(head * part % whole for part in parts) or any(size % 2 for size in sizes):
        raise HostFailure(
            "HOST_GRAPH_INVALID",
            f"expected heads whose channels divide as {' : '.join(map(str, parts))}, found {head} channels: this structure is not supported",
        )
    return tuple(sizes)
