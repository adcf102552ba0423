"""How long work takes by a GPU's own clock: what the host chooses the faster of two ways by."""

from __future__ import annotations

from typing import Callable

import torch


def device_milliseconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Of one call, the mean of `repeats` in a row after two that do not count. On the current stream."""
    for _ in range(2):
        work()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats
