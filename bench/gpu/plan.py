"""What the one command measures, as lanes: pieces of a lane run one after the other, every lane on a device of its own where there are several.

Lane 0 is the host on SDXL with the weights on the card; lane 1 its other places for weights, its peers, the other families and number formats.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Sequence

PIECES = ("machine", "kernel", "swap", "correctness", "checkpoint", "steps", "compiled", "shapes", "capped", "peers", "host", "residuals", "room", "quantised", "families",
          "fused_families", "fused_unet", "fused_unet_parts", "flux_kernels", "passes", "flux", "flux_swap", "flux_host", "flux_sensitivity", "quant_flux",
          "quant_kernels", "module", "module_looks")  # fmt: skip
# 7 GB and 5 GB as the host counts them.
CAPS = {7: 7 * 10**9 >> 20, 5: 5 * 10**9 >> 20}


@dataclass(frozen=True)
class Run:
    """`seconds`: stopped after this time. `label` tells runs of one piece apart in the results."""

    piece: str
    seconds: int = 480
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""


def _capped(gigabytes: int, batch: int) -> Run:
    options = {
        "args": ["--tier", "graphs", "--vram-mib", str(CAPS[gigabytes])],
        "size": [batch, 1024, 1024],
        "wait_s": 20,
        "parts": ["refits"],
        "every": 7,
    }
    return Run("host", 150, options, f"capped at {gigabytes} GB, batch {batch}")


LANES: tuple[tuple[Run, ...], ...] = (
    (
        Run("machine", 60),
        Run("steps", 60, {"ways": ["plain"]}),
        Run(
            "host",
            100,
            {"args": ["--tier", "graphs"], "second_size": [1, 768, 1152], "wait_s": 20, "parts": ["refits", "checkpoints", "away"]},
            "resident, CUDA graphs",
        ),
        Run("host", 260, {"wait_s": 130, "parts": ["refits", "restart"], "every": 7}, "resident, compiled"),
        Run("correctness", 120),
        Run("shapes", 90),
        Run("checkpoint", 90),
        Run("residuals", 150, {"wait_s": 90, "every": 7}, "compiled"),
        Run("residuals", 60, {"args": ["--tier", "graphs"], "every": 7}, "CUDA graphs"),
        Run("room", 120),
    ),
    (
        Run("machine", 60),
        Run(
            "host",
            90,
            {"args": ["--base", "pinned", "--tier", "graphs"], "wait_s": 20, "parts": ["refits", "checkpoints"], "every": 7},
            "pinned, CUDA graphs",
        ),
        _capped(7, 2),
        _capped(5, 1),
        Run("flux", 120, {"modes": ["plain eager", "bf16 fused", "fp8 fused", "bf16 compiled", "fp8 rowwise compiled"]}),
        Run("flux_swap", 90, {"kinds": ["bf16", "fp8", "nvfp4"]}),
        Run("peers", 120),
        Run("families", 200),
        Run("flux_host", 200),
        Run("quant_flux", 400),
        Run("quantised", 90),
        Run("flux_sensitivity", 60),
        Run("flux_kernels", 60),
        Run("passes", 60),
        Run("kernel", 60),
    ),
)


def lanes_of(pieces: Sequence[str], options: dict[str, Any], seconds: int, label: str) -> tuple[tuple[Run, ...], ...]:
    """The named pieces as one lane, with these options and label; the whole plan when none is named."""
    return (tuple(Run(piece, seconds, options, label) for piece in pieces),) if pieces else LANES


def spread(lanes: Sequence[Sequence[Run]], devices: int) -> list[list[Run]]:
    """Lanes on so many devices: later lanes follow earlier ones where devices are fewer."""
    out: list[list[Run]] = [[] for _ in range(max(1, min(devices, len(lanes))))]
    for number, lane in enumerate(lanes):
        out[number % len(out)].extend(lane)
    return out


def arguments(run: Run) -> list[str]:
    return [run.piece, "--options", json.dumps(run.options), "--label", run.label]
