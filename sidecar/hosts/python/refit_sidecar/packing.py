"""One adapter's low-rank factors in one buffer on the device. In: products of PEFT's layers. Out: rows of the merge table, and the memory that they point into.
Never: a factor that changed since; the counters of all of them are kept beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable

import numpy as np
import torch
from refit_host.weights.image import ALIGN, FAST, FAST_DTYPES
from refit_host.weights.layout import Slot
from torch import Tensor

from .peft_layers import LowRank
from .snapshot import Counters
from .watched import token

CODES = {torch.float16: FAST_DTYPES["F16"], torch.bfloat16: FAST_DTYPES["BF16"], torch.float32: FAST_DTYPES["F32"]}


@dataclass(frozen=True)
class Packed:
    """One adapter's products of one group in one buffer: a swap back to it copies nothing. `rows` by slot index; `layers`: the PEFT layer of each row.
    `stamp` grows with every packing."""

    tokens: list[tuple[Any, ...]]
    factors: Counters
    buffer: Tensor
    rows: np.ndarray
    layers: list[Any]
    stamp: int

    def is_current(self) -> bool:
        """Whether the factors are what was packed. The counters alone tell that quickly, most of the time."""
        with torch._C.DisableTorchFunctionSubclass():
            if self.factors.same:
                return True
            if self.tokens != list(map(token, self.factors.tensors)):
                return False
            self.factors.keep()
            return True


def pack(terms: list[tuple[Slot, LowRank, Any]], device: torch.device, stamp: int) -> Packed:
    """Ups of neighbouring matrices lie one behind the other, then downs: a run of equal shapes is one strided batch."""
    rows = np.zeros(len(terms), FAST)
    position, places = 0, []
    for side in ("up", "down"):
        for number, (_, term, _) in enumerate(terms):
            tensor = getattr(term, side)
            rows[side][number] = position
            places.append((position, tensor))
            position += (tensor.numel() * tensor.element_size() + ALIGN - 1) // ALIGN * ALIGN
    for number, (slot, term, _) in enumerate(terms):
        rows[number]["slot"], rows[number]["length"] = slot.index, slot.rows
        rows[number]["rank"], rows[number]["code"] = term.down.shape[0], CODES[term.up.dtype]
    buffer = torch.zeros(position + ALIGN, dtype=torch.uint8, device=device)
    for kind in {each.dtype for _, each in places}:
        mine = [(begin, each) for begin, each in places if each.dtype == kind]
        _copy(
            [buffer[begin : begin + each.numel() * each.element_size()].view(kind).view(each.shape) for begin, each in mine],
            [each.detach() for _, each in mine],
        )
    factors = [tensor for _, tensor in places]
    return Packed(list(map(token, factors)), Counters(factors), buffer, rows, [where for _, _, where in terms], stamp)


def _copy(into: list[Tensor], out: Iterable[Tensor]) -> None:
    if into:
        torch._foreach_copy_(into, list(out))
