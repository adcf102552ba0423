"""`python -m bench.gpu.tensorrt_build [--graphs probe,sd15,sdxl] [--targets 8.9,here]`: builds stripped refittable engines from the shipped graphs with the real library.

Every build runs in a process of its own with a time limit, so that a crash costs one row. Prints one JSON line per build: seconds, bytes, how many
parameters the library and the engine take as refittable, the process's peak memory, and what the library says about running the engine on this
device. A graph that no target gives a refittable engine is built once more without refits, for comparison. Needs `tensorrt_rtx` (or `tensorrt`),
torch and onnx; refittable engines need an NVIDIA driver. Run from the root.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _say(results: Path | None, **facts: object) -> None:
    line = json.dumps(facts)
    print(line, flush=True)
    if results is not None:
        with results.open("a") as file:
            file.write(line + "\n")


def _run(graph: str, target: str, mode: str, given: argparse.Namespace) -> dict[str, object]:
    """One build in a child. What it said before it ended is kept, however it ended."""
    command = [sys.executable, "-m", "bench.gpu.tensorrt_one", graph, "--variant", given.variant, "--target", target, "--mode", mode,
               "--profiles", str(given.profiles), "--memory-gib", str(given.memory_gib)]  # fmt: skip
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=sys.stderr) as child:
        try:
            out, _ = child.communicate(timeout=given.limit)
            ended = {} if child.returncode == 0 else {"ok": False, "ended": f"the process ended with {child.returncode}"}
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
            ended = {"ok": False, "ended": f"stopped after {given.limit} s"}
    facts: dict[str, object] = {}
    for line in out.decode(errors="replace").splitlines():
        if line.startswith("{"):
            facts |= json.loads(line)
    return {
        "graph": graph,
        "target": target,
        "mode": mode,
        "ok": False,
        **facts,
        **ended,
        "whole_seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graphs", default="sd15,sdxl", help="in this order; `probe`, two layers, shows in seconds which targets work")
    parser.add_argument(
        "--targets",
        default="8.9",
        help="compute capabilities, `here` (the device's own), `any` (none named); tried in this order until one works",
    )
    parser.add_argument("--every", action="store_true", help="try every target, also after one worked")
    parser.add_argument("--variant", default="fp16")
    parser.add_argument("--profiles", type=int, default=1, help="how many profiles the engine gets")
    parser.add_argument("--memory-gib", type=int, default=24, help="device memory that the engine is made for")
    parser.add_argument("--limit", type=float, default=240, help="seconds per build")
    parser.add_argument("--results", type=Path, help="JSON lines go here too")
    given = parser.parse_args()
    targets = given.targets.split(",")
    for graph in given.graphs.split(","):
        worked = []
        for target in targets:
            row = _run(graph, target, "stripped", given)
            _say(given.results, bench="tensorrt_build", **row)
            if row["ok"]:
                worked.append(target)
                if not given.every and graph != "probe":
                    break
        # What worked for one graph is what the next one tries.
        targets = worked or targets[:1]
        if not worked and graph != "probe":
            _say(given.results, bench="tensorrt_build", **_run(graph, targets[0], "fixed", given))


if __name__ == "__main__":
    main()
