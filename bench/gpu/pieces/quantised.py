"""Quantised engines as the whole host process: load with what quantising costs, steps, swaps that merge and quantise anew, and the ways back; beside bf16 in the same run.

Options: those of a setting (`graph`: sd15, `size`: [2, 512, 512]); `kinds` (bf16 first: the others are compared with its outputs).
"""

from __future__ import annotations

import statistics
from contextlib import suppress
from typing import Iterator

import torch

from ..context import Context, relative_error
from ..host_process import HostError, HostProcess
from ..setting import Setting

KINDS = ("bf16", "fp8", "int8", "nvfp4")
DEFAULTS = {"graph": "sd15", "size": [2, 512, 512], "args": ["--tier", "graphs"]}
NOTE = {"nvfp4": {"note": "stored and dequantised; no hardware product was run"}}
Outputs = dict[str, torch.Tensor]


def _measure(setting: Setting, host: HostProcess, kind: str, turns: int, outputs: Outputs) -> Iterator[dict]:
    """`outputs` takes the base's and the adapter's."""
    label = {"kind": kind, "graph": setting.graph.name, **NOTE.get(kind, {})}
    engine = setting.load(host, kind)
    engine.step(setting.inputs)
    base, _, _ = engine.step(setting.inputs)
    placement = engine.status()["placement"]
    yield {
        "what": "quantised load",
        **label,
        "load_s": engine.load_s,
        "bytes": engine.loaded["bytes"],
        "tier": placement["tier"],
        "base": placement["base"],
        **{key: value for key, value in engine.loaded.get("quantised", {}).items() if key != "whole"},
    }
    clean = engine.checksums(setting.sampled)
    one, two = setting.stack((0, 1.0)), setting.stack((1, 0.8))
    first = engine.swap(one, setting.touched)
    adapted, _, _ = engine.step(setting.inputs)
    with_one = engine.checksums(setting.sampled)
    rows = [engine.swap(stack, setting.touched) for _ in range(turns) for stack in (two, one)]
    again, _, _ = engine.step(setting.inputs)
    times = [engine.step(setting.inputs)[2] for _ in range(turns)]
    yield {
        "what": "quantised swap and step",
        **label,
        "first_swap_ms": first["ms"],
        "swap_ms": round(statistics.median(row["ms"] for row in rows), 2),
        "n": len(rows),
        "step_ms": round(statistics.median(times), 2),
        "adapter_changes_output_by": relative_error(adapted, base),
        "finite": bool(torch.isfinite(adapted).all()),
        "A_to_B_to_A_weights_bit_identical": engine.checksums(setting.sampled) == with_one,
        "A_to_B_to_A_output_bit_identical": bool(torch.equal(again, adapted)),
    }
    back = engine.swap([], setting.touched)
    clean_again, _, _ = engine.step(setting.inputs)
    yield {
        "what": "quantised back to base",
        **label,
        "ms": back["ms"],
        "weights_bit_identical": engine.checksums(setting.sampled) == clean,
        "weights_compared": len(setting.sampled),
        "output_bit_identical": bool(torch.equal(clean_again, base)),
    }
    outputs |= {"base": base, "with an adapter": adapted}
    engine.unload()


def run(context: Context, options: dict) -> Iterator[dict]:
    setting = Setting(context, {**DEFAULTS, **options})
    torch.set_num_threads(1)
    setting.page_cache()
    turns = context.repeats if context.device.type == "cuda" else 2
    reference: Outputs = {}
    host = HostProcess(setting.arguments)
    try:
        for kind in options.get("kinds", KINDS):
            outputs: Outputs = {}
            try:
                yield from _measure(setting, host, kind, turns, outputs)
            except HostError as error:  # one format that fails must not hide the others
                yield {"what": "quantised load", "kind": kind, "failed": str(error)[:600]}
                with suppress(HostError):  # it may have failed before there was an engine
                    host.call("unload", {"engine": "bench"})
                continue
            if not reference:
                reference = outputs
            else:
                errors = {name: relative_error(value.float(), reference[name].float()) for name, value in outputs.items()}
                yield {"what": "quantised against the first kind", "kind": kind, **errors}
    finally:
        host.close()
