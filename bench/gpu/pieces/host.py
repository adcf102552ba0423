"""The whole host process: started, loaded, stepped while it compiles, refitted, changed to another checkpoint, sent away, restarted.

Options: `args` (more arguments of the host), `size` and `second_size` [batch, height, width], `wait_s` (longest wait for compiled code), `parts` (some of PARTS),
`every` (checksums of each n-th parameter: hashing all of them takes seconds; 1).
"""

from __future__ import annotations

import shutil
import statistics
import time
from typing import Iterator

import torch

from ..context import Context, relative_error
from ..host_process import HostEngine, HostProcess
from ..setting import Setting

PARTS = ("refits", "checkpoints", "away", "reload", "restart")
# As many as a long session with a grid of strengths makes.
SWAPS = 100
SECOND_SIZE_S = 6


def _start(setting: Setting, label: str) -> tuple[HostProcess, HostEngine, list[dict]]:
    began = time.perf_counter()
    host = HostProcess(setting.arguments)
    loading = time.perf_counter()
    engine = setting.load(host)
    loaded = time.perf_counter()
    output, ms, _ = engine.step(setting.inputs)
    end = time.perf_counter()
    row = {
        "what": "process start to first output",
        "start": label,
        "seconds": round(end - began, 2),
        "hello_s": round(host.hello_s, 2),
        "load_s": round(loaded - loading, 2),
        "first_step_ms": round(ms, 1),
        "load_to_output_s": round(end - loading, 2),
        "finite": bool(torch.isfinite(output).all()),
        **engine.status()["placement"],
    }
    return host, engine, [row, {"what": "host", "start": label, "device": host.hello["device"], "versions": host.hello["versions"]}]


def _settle(inputs: dict[str, torch.Tensor], engine: HostEngine, wait_s: float, start: str) -> Iterator[dict]:
    """Steps until the last tier serves; one row per tier."""
    label = {"start": start, "size": [inputs["sample"].shape[0], *(8 * side for side in inputs["sample"].shape[2:])]}
    began = time.perf_counter()
    tier, times, first = None, [], None
    while True:
        _, ms, inside = engine.step(inputs)
        status = engine.status()
        placement = status["placement"]
        if placement["tier"] != tier or time.perf_counter() - began > wait_s:
            if times:
                yield {
                    "what": "steps of a tier",
                    **label,
                    "tier": tier,
                    "since_s": round(first - began, 2),
                    "median_ms": round(statistics.median(times), 2),
                    "min_ms": round(min(times), 2),
                    "n": len(times),
                }
            if time.perf_counter() - began > wait_s:
                yield {"what": "stopped waiting for compiled code", **label, "seconds": wait_s, "compiling": placement["compiling"]}
                return
            tier, times, first = placement["tier"], [], time.perf_counter()
        else:
            times.append(inside)
        if not placement["compiling"] and len(times) >= 12:
            # The graph of the last module is captured by now.
            yield {
                "what": "steps of a tier",
                **label,
                "tier": tier,
                "since_s": round(first - began, 2),
                "median_ms": round(statistics.median(times), 2),
                "min_ms": round(min(times), 2),
                "n": len(times),
                "caller_ms": round(ms, 2),
                "serves_for_good_after_s": round(time.perf_counter() - began, 2),
                "log": [line for line in engine.host.log if "compil" in line][-4:],
            }
            return
        if len(times) >= 12:
            time.sleep(0.05)


def _steady(setting: Setting, engine: HostEngine, turns: int) -> dict:
    rows = [engine.step(setting.inputs) for _ in range(turns + 2)][2:]
    times = [inside for _, _, inside in rows]
    return {
        "median_ms": round(statistics.median(times), 2),
        "min_ms": round(min(times), 2),
        "caller_median_ms": round(statistics.median(ms for _, ms, _ in rows), 2),
        "n": turns,
    }


def _refits(setting: Setting, engine: HostEngine, turns: int) -> Iterator[dict]:
    engine.step(setting.inputs)
    base, _, _ = engine.step(setting.inputs)
    before = _steady(setting, engine, turns)
    clean = engine.checksums(setting.sampled)
    one, two = setting.stack((0, 1.0)), setting.stack((1, 0.8))
    five = setting.stack(*((index, 0.3 + 0.1 * index) for index in range(1, 6)))
    first = engine.swap(one, setting.touched)
    yield {"what": "first swap, delta file read", **first}
    with_one, _, _ = engine.step(setting.inputs)
    kinds = {
        "swap one adapter": [setting.stack((index, 1.0)) for index in range(len(setting.adapters))], "swap between two adapters": [two, one],
        "change of strength": [setting.stack((0, 0.4)), one], "stack of five": [five, five[::-1]],
    }  # fmt: skip
    for name, stacks in kinds.items():
        for stack in stacks:
            engine.swap(stack, setting.touched)
        rows = [engine.swap(stacks[turn % len(stacks)], setting.touched) for turn in range(turns)]
        figures = {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
        yield {"what": name, "caller": True, **figures, "min_ms": min(row["ms"] for row in rows), "n": turns}
    back = []
    for _ in range(max(2, turns // 2)):
        engine.swap(one, setting.touched)
        back.append(engine.swap([], setting.touched))
    again, _, _ = engine.step(setting.inputs)
    yield {
        "what": "back to base",
        "caller": True,
        **{key: round(statistics.median(row[key] for row in back), 2) for key in back[0]},
        "n": len(back),
        "weights_bit_identical": engine.checksums(setting.sampled) == clean,
        "weights_compared": len(setting.sampled),
        "output_bit_identical": bool(torch.equal(again, base)),
    }
    engine.swap(five, setting.touched)
    engine.swap(one, setting.touched)
    output, _, _ = engine.step(setting.inputs)
    yield {
        "what": "A to stack to A",
        "output_bit_identical": bool(torch.equal(output, with_one)),
        "adapter_changes_output_by": relative_error(with_one, base),
    }
    made = engine.swaps
    for turn in range(SWAPS if turns > 2 else 2):
        engine.swap(one if turn % 2 else two, setting.touched)
    engine.swap([], setting.touched)
    after = _steady(setting, engine, turns)
    yield {
        "what": "step before and after swaps",
        "before": before,
        "after": after,
        "after_to_before": round(after["median_ms"] / before["median_ms"], 4),
        "swaps": engine.swaps,
        "of_them_in_a_row": engine.swaps - made,
    }


def _memory(engine: HostEngine, when: str) -> dict:
    status = engine.status()
    return {
        "what": "memory",
        "when": when,
        **status["placement"],
        "process_bytes": status["memory"]["processBytes"],
        "device_free_bytes": status["memory"]["freeBytes"],
    }


def _checkpoints(setting: Setting, engine: HostEngine) -> Iterator[dict]:
    clean, (base, _, _) = engine.checksums(setting.sampled), engine.step(setting.inputs)
    for turn in range(2):
        for index in (1, 0):
            began = time.perf_counter()
            row = engine.swap([], setting.names, setting.checkpoints[index])
            output, _, _ = engine.step(setting.inputs)
            yield {
                "what": "checkpoint change and first output",
                "to": index,
                "turn": turn,
                **row,
                "with_output_s": round(time.perf_counter() - began, 3),
            }
    yield {
        "what": "checkpoint change and back",
        "weights_bit_identical": engine.checksums(setting.sampled) == clean,
        "weights_compared": len(setting.sampled),
        "output_bit_identical": bool(torch.equal(output, base)),
    }


def _away(setting: Setting, engine: HostEngine) -> Iterator[dict]:
    engine.swap(setting.stack((2, 0.7)), setting.touched)
    before, _, _ = engine.step(setting.inputs)
    for name, prepare in (("with an adapter", lambda: None), ("base", lambda: engine.swap([], setting.touched))):
        prepare()
        expected, _, _ = engine.step(setting.inputs)
        free = engine.status()["memory"]["freeBytes"]
        began = time.perf_counter()
        freed = engine.host.call("offload", {"engine": "bench"})[0]["bytes"]
        sent = time.perf_counter()
        memory = engine.status()["memory"]
        output, ms, _ = engine.step(setting.inputs)
        yield {
            "what": "weights leave the device and come back",
            "weights": name,
            "bytes": freed,
            "offload_ms": round((sent - began) * 1000, 1),
            "device_freed_bytes": memory["freeBytes"] - free,
            "process_bytes": memory["processBytes"],
            "first_step_back_ms": round(ms, 1),
            "second_step_ms": round(engine.step(setting.inputs)[1], 1),
            "output_bit_identical": bool(torch.equal(output, expected)),
        }


def _reload(setting: Setting, host: HostProcess, engine: HostEngine) -> Iterator[dict]:
    before = engine.status()["memory"]["freeBytes"]
    freed = host.call("unload", {"engine": "bench"})[0]["bytes"]
    memory = host.call("status", {})[0]["memory"]
    yield {"what": "unload", "bytes": freed, "device_freed_bytes": memory["freeBytes"] - before, "process_bytes": memory["processBytes"]}
    began = time.perf_counter()
    setting.load(host).step(setting.inputs)
    yield {"what": "load again in the same process to first output", "seconds": round(time.perf_counter() - began, 2)}


def run(context: Context, options: dict) -> Iterator[dict]:
    setting, parts = Setting(context, options), options.get("parts", PARTS)
    # The caller here is a small process, as the sidecar is: its threads have nothing to add to a call.
    torch.set_num_threads(1)
    setting.page_cache()
    shutil.rmtree(setting.store, ignore_errors=True)
    turns, wait = (context.repeats, options.get("wait_s", 150)) if context.device.type == "cuda" else (2, 60)
    host, engine, rows = _start(setting, "first, empty store")
    try:
        yield from rows
        yield from _settle(setting.inputs, engine, wait, "first, empty store")
        if "refits" in parts:
            yield from _refits(setting, engine, turns)
        yield _memory(engine, "after steps and swaps")
        if "checkpoints" in parts:
            yield from _checkpoints(setting, engine)
            yield _memory(engine, "after changes of checkpoint")
        if "away" in parts:
            yield from _away(setting, engine)
        if setting.second is not None:
            # CUDA graphs serve a new size at once; its compilation is not waited for.
            yield from _settle(setting.second, engine, SECOND_SIZE_S, "first, empty store")
        if "reload" in parts:
            yield from _reload(setting, host, engine)
        yield {"what": "log", "lines": host.log[-12:]}
    finally:
        host.close()
    if "restart" not in parts:
        return
    host, engine, rows = _start(setting, "second, engine in store")
    try:
        yield from rows
        yield from _settle(setting.inputs, engine, wait, "second, engine in store")
    finally:
        host.close()
