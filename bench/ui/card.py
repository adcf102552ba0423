"""The engine on smaller cards: another program holds the rest of the card, so that ComfyUI and host find only so much free."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..gpu.occupant import Occupant
from .workflows import one_of_each

if TYPE_CHECKING:
    from .__main__ import Bench


def run_cards(bench: Bench, sizes: Sequence[float]) -> None:
    """One server, sidecar and host for each of `sizes` (GB). The last line of each says what fitted and what it cost."""
    # This asks for the card, which takes memory of it for this process: before anything is held.
    total = torch.cuda.mem_get_info()[1]
    for gigabytes in sizes:
        occupant = Occupant("cuda", bench.folder)
        try:
            settled(occupant)
            free = occupant.fill(int(gigabytes * 1e9))
            bench.occupied = total - free
            bench.log(what="card", gigabytes=gigabytes, free_bytes=free, up_seconds=round(bench.start(), 2))
            for way in bench.given.ways.split(","):
                rows = bench.table(way, one_of_each(bench.pixels, bench.given.size))
                engine = next(iter(bench.engines()), None) if way == "engine" else None
                bench.log(
                    what="on this card", gigabytes=gigabytes, way=way, prompts=len(rows),
                    served=sum(row.get("served_by") == "engine" for row in rows),
                    reasons=sorted({row["reason"] for row in rows if row.get("reason")}),
                    step_ms=round(statistics.median(row["step_ms"] for row in rows if row["step_ms"]), 1) if rows else None,
                    most_bytes=max((row["device_bytes"] for row in rows), default=None),
                    serving=engine and engine["serving"],
                )  # fmt: skip
        finally:
            bench.stop()
            bench.end_sidecar()
            occupant.close()
    bench.occupied = None


def settled(occupant: Occupant) -> None:
    """Waits until nothing gives memory back any more: the processes of the card before are ending."""
    before = -1
    while (now := occupant.free()) != before:
        before = now
        time.sleep(1)
