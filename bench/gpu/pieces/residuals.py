"""ControlNet residuals through the whole host process: steps without and with them, against plain diffusers on the same weights; a swap between two such steps, and the way back.

Options: those of a setting; `wait_s` (longest wait for compiled code, which steps with residuals have of their own; 0). What the store holds is used and kept.
"""

from __future__ import annotations

import statistics
import time
from typing import Iterator, Mapping

import torch

from ..context import Context, relative_error
from ..host_process import HostEngine, HostProcess
from ..plain import PlainUnet
from ..setting import Setting

# About as large as what they are added to.
SCALE = 0.5
# Through the host's pipe, or left in a client's segment for the host to read (docs/develop/internals.md, "Segments").
WAYS = ("frame", "segment")
Inputs = Mapping[str, torch.Tensor]


def _timed(engine: HostEngine, inputs: Inputs, turns: int, by_place: bool) -> dict:
    """`caller_ms` holds the way of the tensors to the host and back (into the segment, where they lie in one); `host_ms` ends where the output is on its way."""
    rows = [engine.step(inputs, by_place)[1:] for _ in range(turns + 2)][2:]
    return {
        "host_ms": round(statistics.median(row[1] for row in rows), 2),
        "caller_ms": round(statistics.median(row[0] for row in rows), 2),
        "n": turns,
    }


def _settle(engine: HostEngine, kinds: Mapping[str, Inputs], wait_s: float) -> dict:
    """Steps of both kinds until their compiled code serves."""
    began = time.perf_counter()
    while True:
        for inputs in kinds.values():
            engine.step(inputs)
        waited = time.perf_counter() - began
        if not (busy := engine.status()["placement"]["compiling"]) or waited > wait_s:
            # Once more each: the graph of the last module is captured.
            for inputs in kinds.values():
                engine.step(inputs)
            return {
                "what": "waited for compiled code",
                "seconds": round(waited, 1),
                "still_compiling": busy,
                "log": [line for line in engine.host.log if "compil" in line][-6:],
            }
        time.sleep(0.1)


def _measure(setting: Setting, engine: HostEngine, plain: PlainUnet, kinds: Mapping[str, Inputs], turns: int) -> Iterator[dict]:
    label = {"tier": engine.status()["placement"]["tier"]}
    for name, inputs in kinds.items():
        for way in WAYS:
            timed = _timed(engine, inputs, turns, by_place=way == "segment")
            yield {
                "what": "steady step",
                "kind": name,
                "way": way,
                **label,
                **timed,
                "bytes_sent": sum(value.nbytes for value in inputs.values()),
            }
    residuals = setting.residuals(SCALE)
    clean = engine.checksums(setting.sampled)
    without, with_them = (engine.step(inputs)[0] for inputs in kinds.values())
    placed = engine.step(kinds["with residuals"], by_place=True)[0]
    offered = bool(engine.host.hello.get("segments"))
    yield {
        "what": "residuals in a segment against the same in the frame",
        **label,
        "offered": offered,
        "bit_identical": bool(torch.equal(placed, with_them)),
    }
    zero = engine.step({**setting.inputs, **setting.residuals(0.0)})[0]
    yield {
        "what": "residuals of zero against none",
        **label,
        "bit_identical": bool(torch.equal(zero, without)),
        "relative_error": relative_error(zero, without),
    }
    errors = {
        "without": relative_error(without, plain(setting.inputs)),
        "with_residuals": relative_error(with_them, plain(setting.inputs, residuals)),
    }
    yield {
        "what": "against plain diffusers",
        **label,
        **errors,
        "residuals_change_output_by": relative_error(with_them, without),
        "finite": bool(torch.isfinite(with_them).all()),
    }
    stack = setting.stack((0, 1.0))
    swap = engine.swap(stack, setting.touched)
    merged = engine.step(kinds["with residuals"])[0]
    plain.merge(stack)
    yield {
        "what": "swap between two steps with residuals",
        **label,
        **swap,
        "adapter_changes_output_by": relative_error(merged, with_them),
        "against_plain_diffusers_merged": relative_error(merged, plain(setting.inputs, residuals)),
    }
    plain.merge([])
    back = engine.swap([], setting.touched)
    again = [engine.step(inputs)[0] for inputs in kinds.values()]
    yield {
        "what": "back to base",
        **label,
        **back,
        "weights_bit_identical": engine.checksums(setting.sampled) == clean,
        "weights_compared": len(setting.sampled),
        "output_bit_identical": {name: bool(torch.equal(one, other)) for name, one, other in zip(kinds, again, (without, with_them))},
    }


def run(context: Context, options: dict) -> Iterator[dict]:
    setting = Setting(context, options)
    plain = PlainUnet(setting, context.device)
    torch.set_num_threads(1)
    turns = context.repeats if context.device.type == "cuda" else 2
    kinds = {"without": setting.inputs, "with residuals": {**setting.inputs, **setting.residuals(SCALE)}}
    host = HostProcess(setting.arguments)
    try:
        engine = setting.load(host)
        for name, inputs in kinds.items():
            _, caller, inside = engine.step(inputs)
            yield {
                "what": "first step",
                "kind": name,
                "host_ms": round(inside, 1),
                "caller_ms": round(caller, 1),
                "tier": engine.status()["placement"]["tier"],
            }
        if options.get("wait_s"):
            yield _settle(engine, kinds, options["wait_s"])
        yield from _measure(setting, engine, plain, kinds, turns)
        yield {"what": "memory", **engine.status()["placement"]}
    finally:
        host.close()
