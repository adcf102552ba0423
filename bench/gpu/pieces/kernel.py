"""The merge kernel against the plain reference: factor dtypes, mixed stacks, slices, swapped halves, odd sizes, in place."""

from __future__ import annotations

from typing import Iterator

import numpy as np
import torch
from refit_host.weights import merge_torch
from refit_host.weights.image import FAST
from refit_host.weights.layout import Layout
from refit_host.weights.table import build_table

from ..context import Context, relative_error

SHAPES = {
    "a.weight": (70, 96),
    "b.weight": (40, 3, 3, 3),
    "c.weight": (96, 40),
    "d.weight": (8, 130),
    "e.bias": (7,),
    "q.weight": (96, 64),
    "f.weight": (640, 1280),
    "h.weight": (640, 1280),
    "i.weight": (640, 1280),
    "g.weight": (320, 320, 3, 3),
}
FILE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WHOLE = {"q.weight": [(0, 32, 0), (32, 32, 0), (16, 40, 1)], "c.weight": [(0, 96, 1), (10, 20, 0)]}


def _stack(layout: Layout, codes: tuple[int, ...], make: torch.Generator) -> tuple[list, list]:
    stack, buffers = [], []
    for number, code in enumerate(codes * 2):
        parts, rows, position = [], [], 0
        for slot in layout.slots:
            for start, length, swap in WHOLE.get(slot.name, [(0, slot.rows, 0)]) if len(slot.shape) > 1 else []:
                rank = (4, 16, 20, 33)[(number + slot.index) % 4]
                places = []
                for shape in ((length, rank), (rank, slot.cols)):
                    raw = (torch.randn(shape, generator=make) / rank**0.5).to(FILE_DTYPES[code]).view(torch.uint8).reshape(-1)
                    places.append(position)
                    padding = -raw.numel() % 128
                    parts += [raw, torch.zeros(padding, dtype=torch.uint8)]
                    position += raw.numel() + padding
                rows.append((slot.index, start, length, swap, *places, rank, code, 0.3, 1.0))
        buffers.append(torch.cat(parts))
        stack.append((np.array(rows, FAST), 0.5 + number))
    return stack, buffers


def run(context: Context, options: dict) -> Iterator[dict]:
    from refit_host.weights import merge_triton

    make = torch.Generator().manual_seed(3)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        layout = Layout.build(SHAPES, dtype, channels_last=True, swapped=frozenset({"c.weight"}))
        base = torch.zeros(layout.nbytes, dtype=torch.uint8)
        for slot in layout.slots:
            slot.put(base, torch.randn(slot.shape, generator=make))
        slots = [slot for slot in layout.slots if len(slot.shape) > 1]
        for codes in ((0,), (1,), (2,), (0, 1, 2)):
            stack, buffers = _stack(layout, codes, make)
            table = build_table(layout, stack, slots)
            expected = base.clone()
            merge_torch.merge(layout, expected, base, table, buffers)
            there = base.to(context.device)
            out, place = torch.zeros_like(there), there.clone()
            launch = merge_triton.prepare(layout, table, [b.to(context.device) for b in buffers], context.device)
            merge_triton.run(launch, layout, out, there)
            merge_triton.run(launch, layout, place, place)
            worst = max(relative_error(slot.get(out).cpu(), slot.get(expected)) for slot in slots)
            same = all(torch.equal(slot.get(out), slot.get(place)) for slot in slots)
            yield {
                "what": "merge kernel against reference",
                "weights": str(dtype),
                "factors": list(codes),
                "worst_error": worst,
                "in_place_equal": same,
            }
