"""Another program holds the card, as a UI with its own model does: what a load answers, the same load once that program has let go, and a load beside it when it does not.

Options: those of a setting; `leave_bytes`: device memory that the other program leaves (less than the weights and a step need; 5 GiB).
"""

from __future__ import annotations

import statistics
import time
from typing import Iterator

import torch

from ..context import Context, relative_error
from ..host_process import HostEngine, HostError, HostProcess
from ..occupant import Occupant
from ..setting import Setting

LEAVE_BYTES = 5 << 30
# Weights of the demo's model are 36 MB.
TINY_LEAVE_BYTES = 12 << 20


class _Seen:
    """Outputs of an engine: base, with an adapter, base again."""

    def __init__(self, setting: Setting, engine: HostEngine, turns: int) -> None:
        engine.step(setting.inputs)
        rows = [engine.step(setting.inputs) for _ in range(turns)]
        self.base = rows[-1][0]
        self.swap = engine.swap(setting.stack((0, 1.0)), setting.touched)
        self.adapted = engine.step(setting.inputs)[0]
        self.back = engine.swap([], setting.touched)
        self.again = engine.step(setting.inputs)[0]
        self.step_ms = round(statistics.median(inside for _, _, inside in rows), 2)

    def row(self) -> dict:
        return {
            "step_ms": self.step_ms,
            "swap_ms": self.swap["ms"],
            "back_ms": self.back["ms"],
            "back_to_base_output_bit_identical": bool(torch.equal(self.base, self.again)),
            "adapter_changes_output_by": relative_error(self.adapted, self.base),
        }

    def against(self, other: "_Seen") -> dict:
        pairs = {"base": (self.base, other.base), "with an adapter": (self.adapted, other.adapted)}
        return {
            name: {"bit_identical": bool(torch.equal(one, two)), "relative_error": relative_error(one, two)}
            for name, (one, two) in pairs.items()
        }


def _placed(engine: HostEngine) -> dict:
    status = engine.status()
    keys = ("base", "deviceBytes", "streamedBytes", "tier", "peakBytes")
    memory = {"process_bytes": status["memory"]["processBytes"], "device_free_bytes": status["memory"]["freeBytes"]}
    return {"load_s": engine.load_s, **{key: status["placement"][key] for key in keys}, **memory}


def _refused(setting: Setting, host: HostProcess, free: int) -> dict:
    """A load that is expected to ask for room."""
    began = time.perf_counter()
    row = {"what": "load while another program holds the card", "device_free_bytes": free}
    try:
        engine = setting.load(host)
    except HostError as error:
        return {**row, "answer": error.code, "answered_ms": round((time.perf_counter() - began) * 1000, 1), **error.evidence}
    placed = _placed(engine)
    engine.unload()
    return {**row, "answer": "loaded", **placed}


def run(context: Context, options: dict) -> Iterator[dict]:
    setting = Setting(context, {"args": ["--tier", "graphs"], **options})
    torch.set_num_threads(1)
    setting.page_cache()
    turns = context.repeats if context.device.type == "cuda" else 2
    leave = TINY_LEAVE_BYTES if context.tiny else options.get("leave_bytes", LEAVE_BYTES)
    occupant = Occupant(context.device.type, context.folder)
    host = HostProcess(setting.arguments, occupant.module)
    try:
        engine = setting.load(host)
        alone = _Seen(setting, engine, turns)
        yield {"what": "nobody else on the card", **alone.row(), **_placed(engine)}
        engine.unload()
        yield _refused(setting, host, occupant.fill(leave))
        began = time.perf_counter()
        freed = occupant.free()
        freed_ms = (time.perf_counter() - began) * 1000
        engine = setting.load(host)
        again = _Seen(setting, engine, turns)
        yield {
            "what": "the same load after the other program let go",
            "other_freed_ms": round(freed_ms, 1),
            "device_free_bytes_then": freed,
            **again.row(),
            **_placed(engine),
            "against_alone": again.against(alone),
        }
    finally:
        host.close()
    # A process of its own: its peak is that of streaming alone.
    host = HostProcess(setting.arguments, occupant.module)
    try:
        yield _refused(setting, host, occupant.fill(leave))
        engine = setting.load(host)
        beside = _Seen(setting, engine, turns)
        yield {
            "what": "the second load beside a program that keeps the card",
            **beside.row(),
            **_placed(engine),
            "against_alone": beside.against(alone),
        }
        engine.unload()
        occupant.free()
        engine = setting.load(host)
        yield {
            "what": "load again after it let go at last",
            **_placed(engine),
            "against_alone": _Seen(setting, engine, turns).against(alone),
        }
        engine.unload()
        yield _refused(setting, host, occupant.fill(leave))
        yield {"what": "log", "lines": host.log[-8:]}
    finally:
        host.close()
        occupant.close()
