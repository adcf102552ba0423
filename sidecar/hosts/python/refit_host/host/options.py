"""Command line of a host; the sidecar sets it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20


@dataclass(frozen=True)
class Options:
    kind: str
    device: str
    vram_cap_bytes: int | None
    weights_bytes: int | None
    base: str
    tier: str
    adapter_loss: float | None
    rounding: str
    merge: str
    store: Path | None
    read_stores: tuple[Path, ...]
    store_unread: bool
    idle_seconds: float
    delta_cache_bytes: int
    weights: str
    share: bool


def parse_options(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="refit_host", description="An engine host; started by the sidecar, speaks frames on stdin and stdout."
    )
    parser.add_argument("--kind", choices=("torch", "tensorrt"), default="torch")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--vram-mib", type=int, default=0, help="most device memory this process may take; 0: no cap")
    parser.add_argument(
        "--weights-mib", type=int, default=0, help="device memory for weights; more are streamed from host memory; 0: what is free"
    )
    parser.add_argument("--base", choices=("auto", "resident", "pinned", "file"), default="auto", help="where pristine weights stay")
    parser.add_argument(
        "--tier", choices=("auto", "eager", "graphs", "compiled"), default="auto", help="fastest way to run steps that is tried"
    )
    parser.add_argument(
        "--adapter-loss", type=float, help="share of an adapter's change that rounding may swallow before it stays beside the layer, 0 to 1"
    )
    parser.add_argument(
        "--rounding", choices=("nearest", "stochastic"), default="nearest", help="of what adapters change in fp8, int8 and nvfp4 weights"
    )
    parser.add_argument("--merge", choices=("auto", "triton", "torch"), default="auto")
    parser.add_argument("--store", type=Path, help="folder of the engine store; none: nothing is kept")
    parser.add_argument("--read-store", type=Path, action="append", default=[], help="further engine store, only read; repeatable")
    parser.add_argument("--store-unread", action="store_true", help="--store is written and not read")
    parser.add_argument("--idle-seconds", type=float, default=0, help="idle weights leave the device after this time; 0: never")
    parser.add_argument(
        "--delta-cache-mib",
        type=int,
        default=0,
        help="host memory for adapters that were used lately; 0: a sixteenth of the computer's, 1 to 8 GiB",
    )
    parser.add_argument("--weights", choices=("stripped", "embedded", "fixed"), default="stripped",
                        help="tensorrt: weights outside the engine file, inside and refittable, or inside for good")  # fmt: skip
    parser.add_argument(
        "--share",
        choices=("on", "off"),
        default="on",
        help="whether clients on this computer may open memory of the device for the tensors of steps",
    )
    given = parser.parse_args(arguments)
    return Options(
        given.kind, given.device, given.vram_mib * MIB or None, given.weights_mib * MIB or None, given.base, given.tier, given.adapter_loss,
        given.rounding, given.merge, given.store, tuple(given.read_store),
        given.store_unread, given.idle_seconds,
        given.delta_cache_mib * MIB or _delta_cache_bytes(), given.weights, given.share == "on",
    )  # fmt: skip


def _delta_cache_bytes() -> int:
    """Eight SDXL adapters of rank 16 are 0.7 GB, one of rank 128 as much: what is no longer held is read from disk and uploaded again, 0.2 to 0.7 s."""
    return min(8 << 30, max(1 << 30, psutil.virtual_memory().total // 16))
