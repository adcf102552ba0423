"""A process that may take only so much of the card: one weight copy on the device, the base in pinned memory."""

from __future__ import annotations

from typing import Iterator

import psutil
import torch
from refit_host.weights.memory import apply_cap, choose_place, device_budget

from ..context import Context
from ..engine import Engine


def run(context: Context, options: dict) -> Iterator[dict]:
    cuda = context.device.type == "cuda"
    cap, size = options.get("cap_gb", 7) * 10**9, tuple(options.get("size", (2, 1024, 1024)))
    apply_cap(context.device, cap)
    budget = device_budget(context.device, cap)
    weights = 5_134_932_992 if not context.tiny else 0
    place = choose_place(budget, weights, 0, live_is_allocated=False) if cuda else "pinned"
    engine = Engine(context, place)
    inputs = context.inputs(*size)
    step = engine.graphed() if options.get("graphs") and cuda else engine.forward
    yield {"what": "step", "cap_gb": cap / 1e9, "place": place, "size": list(size), **context.wall(lambda: step(inputs), warm=2)}
    turns = iter([[(context.adapter(0), 1.0)], [(context.adapter(1), 0.8)]] * 1000)
    yield {"what": "swap one adapter", "cap_gb": cap / 1e9, "place": place, **context.wall(lambda: engine.swap(next(turns)), warm=2)}
    row = {"what": "memory", "cap_gb": cap / 1e9, "place": place, "rss_gb": round(psutil.Process().memory_info().rss / 1e9, 2)}
    if cuda:
        row |= {
            "peak_allocated_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3),
            "peak_reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 3),
        }
    yield row
