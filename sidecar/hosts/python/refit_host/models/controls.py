"""What ControlNets of transformers add to a picture's tokens behind each block of a kind.

In: a step's inputs `NAME_0`, `NAME_1`, ... [b, patches, width], each for so many blocks in a row as spread them over all. Out: one for each block.
"""

from __future__ import annotations

from typing import Mapping

from torch import Tensor
from torch.nn import functional


def controls(inputs: Mapping[str, Tensor], name: str, blocks: int) -> list[Tensor] | None:
    """In the order of the blocks; None in a step without them."""
    given = []
    while (one := inputs.get(f"{name}_{len(given)}")) is not None:
        given.append(one)
    if not given:
        return None
    each = -(-blocks // len(given))
    return [given[number // each] for number in range(blocks)]


def added(tokens: Tensor, more: Tensor) -> Tensor:
    """Tokens behind those that the ControlNet saw (reference pictures) stay as they are."""
    return tokens + as_long(more, tokens.shape[1])


def as_long(more: Tensor, count: int) -> Tensor:
    return functional.pad(more, (0, 0, 0, count - more.shape[1]))
