"""One JSON of a run of the benchmarks, in the form that the page of figures is generated from (bench/results, docs/evidence/benchmark.md).

In: the JSON lines of `python -m bench.gpu`, `python -m bench.gpu.product` and `python -m bench.ui`. Out: a row a figure, with p50, p95 and the number of
repeats, by whom it was reached, and what was adapted. Peers of one run stand in one file.

    python -m bench.summary RESULTS.jsonl [--run NAME] [--date DATE] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MODELS = {"sdxl": "SDXL", "flux": "Flux dev", "tiny": "tiny SDXL"}
#: Text of a row of the piece `module` to phase, by whom, and how.
MODULE = (
    (r"^plain module, eager step$", "step", "diffusers", "eager"),
    (r"^RefitModule: first call$", "first", "refit", "RefitModule"),
    (r"^RefitModule: step$", "step", "refit", "RefitModule"),
    (r"^RefitModule: swap between two", "swap", "refit", "RefitModule"),
    (r"^RefitModule: change of strength", "strength", "refit", "RefitModule"),
    (r"^RefitModule: stack of five", "stack", "refit", "RefitModule"),
    (r"^PEFT: unfuse and fuse$", "swap", "peft", "unfuse and fuse"),
    (r"^PEFT: step, fused, eager$", "step", "peft", "fused, eager"),
    (r"^PEFT: step with adapter layers", "step", "peft", "adapter layers, eager"),
    (r"^torch.compile of repeated blocks: first call$", "first", "torch.compile", "repeated blocks"),
    (r"^torch.compile of repeated blocks: step", "step", "torch.compile", "repeated blocks"),
    (r"^hotswap, repeated blocks compiled: first call$", "first", "hotswap", "repeated blocks compiled"),
    (r"^hotswap, repeated blocks compiled: step$", "step", "hotswap", "repeated blocks compiled"),
    (r"^hotswap: swap$", "swap", "hotswap", "repeated blocks compiled"),
)
TIERS = {"graphs": "CUDA graphs", "compiled": "compiled"}
#: Phases of `bench.gpu.product` and of `bench.ui` by what was changed, first times left out: they read a file.
CHANGES = (
    (r"^(a|b)( again)?$|^LoRA \w after \w$", "swap", 1),
    (r"^strength$", "strength", 1),
    (r"^stack again$|^stack of four, again$", "stack", 4),
    (r"^none$|^back to none$", "back", 0),
)


def times(values: Iterable[float]) -> Row:
    """Median, 95th percentile (the largest of few) and how many."""
    ordered = sorted(values)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"unit": "ms", "p50": round(median, 2), "p95": round(at(0.95), 2), "n": len(ordered)}


def timed(row: Row) -> Row:
    if "median_ms" in row:
        return {"unit": "ms", "p50": round(row["median_ms"], 2), "p95": round(row["p95_ms"], 2), "n": row["n"]}
    return {"unit": "ms", "p50": round(row["seconds"] * 1000, 1), "p95": None, "n": 1}


def of_module(rows: list[Row]) -> list[Row]:
    found = []
    for row in rows:
        match = next((entry for entry in MODULE if row.get("piece") == "module" and re.search(entry[0], str(row.get("what")))), None)
        if match is None:
            continue
        _, phase, by, how = match
        tier = f", {TIERS[row['tier']]}" if by == "refit" else ""
        common = {"phase": phase, "by": by, "how": f"{how}{tier}", "model": MODELS.get(row["model"], row["model"])}
        sizes = {key: row[key] for key in ("layers", "rank") if key in row}
        found.append({**common, **sizes, **timed(row)})
        if phase == "first" and "memory_with_engine_bytes" in row:
            found.append({**common, "phase": "memory", "unit": "bytes", "p50": row["memory_with_engine_bytes"], "p95": None, "n": 1})
    # A peer swaps what RefitModule swaps.
    sizes = {row["model"]: row for row in found if row["phase"] == "swap" and "layers" in row}
    for row in found:
        if row["phase"] == "swap" and "layers" not in row and row["model"] in sizes:
            row.update({key: sizes[row["model"]][key] for key in ("layers", "rank")})
    # The plain module is timed once for each tier of ours; one row is enough.
    once: dict[tuple, Row] = {}
    for row in found:
        once.setdefault((row["phase"], row["by"], row["how"], row["model"]), row)
    return list(once.values())


def of_families(rows: list[Row]) -> list[Row]:
    found = []
    for row in rows:
        if row.get("what") != "family" or "swap_all_layers" not in row:
            continue
        common = {"by": "refit", "model": row["name"], "layers": row["adapter_layers"]}
        found.append({"phase": "swap", "how": "every adapter layer", **common, **timed(row["swap_all_layers"])})
        found.append({"phase": "step", "how": "eager", **common, **timed(row["step"])})
        found.append({"phase": "step", "how": "CUDA graph", **common, **timed(row["graph_step"])})
        if "step" in row.get("compiled", {}):
            found.append({"phase": "step", "how": "compiled blocks", **common, **timed(row["compiled"]["step"])})
        if "peak_gb" in row:
            found.append(
                {"phase": "memory", "how": "peak", **common, "unit": "bytes", "p50": round(row["peak_gb"] * 1e9), "p95": None, "n": 1}
            )
    return found


def _changed(what: str) -> tuple[str, int] | None:
    return next(((phase, count) for pattern, phase, count in CHANGES if re.search(pattern, what)), None)


def of_product(rows: list[Row]) -> list[Row]:
    """The sidecar as a client waits for it: `prepare`, and the step that it sees, on the last tier."""
    settled = [row for row in rows if str(row.get("what", "")).startswith("settled: ") and "prepare_ms" in row]
    groups: dict[tuple[str, int], list[float]] = {}
    for row in settled:
        change = _changed(row["what"].removeprefix("settled: "))
        if change is not None:
            groups.setdefault(change, []).append(row["prepare_ms"])
    how = "sidecar and host, a client's wait"
    common = {"by": "refit", "how": how, "model": "SDXL", "layers": 722, "rank": 16}
    found = [{"phase": phase, **common, "stack": count, **times(values)} for (phase, count), values in groups.items()]
    if settled:
        found.append({"phase": "step", **common, **times([row["step_ms"] for row in settled])})
    other = [row["prepare_ms"] for row in rows if str(row.get("what", "")).startswith("checkpoint ") and "prepare_ms" in row]
    if other:
        found.append({"phase": "checkpoint", **common, **times(other)})
    for row in rows:
        if row.get("what") == "first picture":
            found.append({"phase": "first", **common, "unit": "ms", "p50": round(row["seconds"] * 1000), "p95": None, "n": 1})
        if row.get("what") == "memory after two checkpoints":
            found.append({"phase": "memory", **common, "unit": "bytes", "p50": row["device_bytes"], "p95": None, "n": 1})
    return found


def of_ui(rows: list[Row], version: str) -> list[Row]:
    """From the sampler's call to its first step, and the step, in ComfyUI; by ComfyUI itself and on the engine."""
    names = {"own": ("comfyui", "its own path"), "engine": ("refit", "Load Engine")}
    groups: dict[tuple[str, str, int], list[float]] = {}
    steps: dict[str, list[float]] = {}
    for row in rows:
        way, change = row.get("way"), _changed(str(row.get("prompt", "")))
        if way not in names or change is None:
            continue
        groups.setdefault((way, *change), []).append(row["prep_ms"])
        steps.setdefault(way, []).append(row["step_ms"])
    common = {"model": "SDXL", "layers": 722, "rank": 16}
    found = []
    for (way, phase, count), values in groups.items():
        by, how = names[way]
        found.append({"phase": phase, "by": by, "how": f"{how} in ComfyUI {version}", **common, "stack": count, **times(values)})
    for way, values in steps.items():
        by, how = names[way]
        found.append({"phase": "step", "by": by, "how": f"{how} in ComfyUI {version}", **common, **times(values)})
    return found


def summary(rows: list[Row], *, date: str, command: str, computer: Mapping[str, Any], versions: Mapping[str, str]) -> Row:
    """What is written; `rows` of one run on one computer."""
    comfyui = versions.get("comfyui", "")
    found = [*of_module(rows), *of_product(rows), *of_families(rows), *of_ui(rows, comfyui)]
    return {
        "format": "refit-bench",
        "version": 1,
        "date": date,
        "command": command,
        "computer": dict(computer),
        "versions": dict(versions),
        "rows": found,
    }


def read_rows(path: Path, run: str | None = None) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return rows if run is None else [row for row in rows if str(row.get("run", "")).startswith(run)]


def here(rows: list[Row]) -> tuple[Row, dict[str, str]]:
    """Computer and versions, from the piece `machine` where it ran, and from this process."""
    computer: Row = {"system": platform.system(), "cores": os.cpu_count()}
    versions: dict[str, str] = {"python": platform.python_version()}
    for row in rows:
        if row.get("what") == "gpu":
            computer["card"] = row.get("name")
            computer["memoryGiB"] = row.get("memory_gib")
        if row.get("what") == "versions":
            versions |= {key: str(value) for key, value in row.items() if key in ("python", "torch", "triton", "diffusers", "peft")}
        machine = row.get("machine")
        if isinstance(machine, dict):
            computer |= {"card": machine.get("card"), "cores": machine.get("cores")}
            versions |= {key: str(machine[key]) for key in ("torch", "python", "comfyui") if key in machine}
    return computer, versions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.summary", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON lines of a run")
    parser.add_argument("--run", help="rows of this run alone")
    parser.add_argument("--date", default="", help="when it ran (YYYY-MM-DD)")
    parser.add_argument("--command", default="", help="the command that measures it again")
    parser.add_argument("--card", help="where the rows do not say it")
    parser.add_argument("--versions", default="{}", help="JSON, where the rows do not say them")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = read_rows(given.results, given.run)
    computer, versions = here(rows)
    if given.card:
        # Rows of another computer: what this process knows says nothing.
        computer, versions = {"card": given.card}, {}
    versions |= json.loads(given.versions)
    text = json.dumps(summary(rows, date=given.date, command=given.command, computer=computer, versions=versions), indent=1)
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text + "\n", "utf-8")
        print(f"{given.out}: {text.count(chr(34) + 'phase' + chr(34))} rows")


if __name__ == "__main__":
    main()
