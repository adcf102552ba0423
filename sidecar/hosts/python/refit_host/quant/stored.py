"""Where codes, scales and the parameters that stay whole lie in an engine's live memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, Mapping

import torch
from torch import Tensor

from ..weights.layout import ALIGN, Layout, Slot
from .encode import encode_into
from .formats import Format, Part, parts_of


@dataclass(frozen=True)
class Stored:
    """`whole`: slots of the parameters that are not quantised, at their place in this memory. `coded`: slot index -> (place, part)
    of each stored tensor."""

    form: Format
    whole: Layout
    coded: Mapping[int, tuple[tuple[int, Part], ...]]
    nbytes: int

    @staticmethod
    def build(layout: Layout, parameters: Iterable[str], form: Format) -> "Stored":
        """`parameters`: those to quantise, all matrices."""
        chosen, offset = frozenset(parameters), 0
        whole: list[Slot] = []
        coded: dict[int, tuple[tuple[int, Part], ...]] = {}

        def place(nbytes: int) -> int:
            nonlocal offset
            begin, offset = offset, offset + -(-nbytes // ALIGN) * ALIGN
            return begin

        for slot in layout.slots:
            if slot.name in chosen:
                coded[slot.index] = tuple((place(part.nbytes), part) for part in parts_of(form, slot.rows, slot.cols))
            else:
                whole.append(replace(slot, offset=place(slot.nbytes)))
        return Stored(form, Layout(tuple(whole), {slot.name: slot for slot in whole}, offset), coded, offset)

    def parts(self, slot: Slot, live: Tensor) -> dict[str, Tensor]:
        """Views of a quantised parameter's stored tensors."""
        return {part.name: live[begin : begin + part.nbytes].view(part.dtype).view(part.shape) for begin, part in self.coded[slot.index]}

    def put(self, slot: Slot, live: Tensor, value: Tensor) -> None:
        """Stores a merged value, f32 in the slot's physical order: quantised, or rounded to the parameter's dtype."""
        if slot.index in self.coded:
            encode_into(self.form, value, self.parts(slot, live))
        else:
            self.whole.by_name[slot.name].physical(live).copy_(value)

    def value(self, slot: Slot, live: Tensor) -> Tensor:
        """A parameter's live value in canonical order and the layout's dtype."""
        if slot.index not in self.coded:
            return self.whole.by_name[slot.name].get(live)
        return self._canonical(slot, self.parts(slot, live))

    def copy(self, slot: Slot, live: Tensor, codes: Mapping[str, Tensor]) -> None:
        """Stores a matrix that is coded already."""
        for name, part in self.parts(slot, live).items():
            part.copy_(codes[name])

    def change(self, slot: Slot, live: Tensor, value: Tensor, before: Mapping[str, Tensor], chance: Tensor | None) -> Mapping[str, Tensor]:
        """Stores a merged value of a matrix whose pristine codes are `before`; returns its parts. `chance`: rounding.py."""
        after = self.form.encode(value, before, chance)
        self.copy(slot, live, after)
        return after

    def settled(self, slot: Slot, codes: Mapping[str, Tensor]) -> Tensor:
        """What `value` gives for a matrix of these codes."""
        return self._canonical(slot, codes)

    def _canonical(self, slot: Slot, parts: Mapping[str, Tensor]) -> Tensor:
        value = self.form.decode(parts).contiguous()
        return replace(slot, offset=0, dtype=torch.float32).get(value.view(torch.uint8).flatten()).to(slot.dtype).view(slot.shape)
