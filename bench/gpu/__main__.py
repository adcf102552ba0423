"""One command for the whole table: runs each piece in its own process, so that a crash or a time-out loses only that piece.

Prints one JSON line per figure as it is measured, and keeps them in <folder>/results.jsonl; summary.json beside it has the run as one JSON
(bench/summary.py). Without pieces it runs the plan (plan.py), a lane per device.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from datetime import date
from pathlib import Path

from ..summary import here, read_rows, summary
from .plan import PIECES, Run, arguments, lanes_of, spread

ROOT = Path(__file__).resolve().parents[2]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("pieces", nargs="*", help=f"some of: {', '.join(PIECES)} (the whole plan)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--devices", type=int, default=1, help="CUDA devices to use at once, a lane of the plan on each")
    parser.add_argument("--lane", type=int, help="this lane of the plan alone")
    parser.add_argument("--tiny", action="store_true", help="a small structure, to try the bench itself on a CPU")
    parser.add_argument("--folder", type=Path, default=Path("bench-gpu-data"), help="random checkpoints and adapters are kept here")
    parser.add_argument("--results", type=Path, help="JSON lines go here too (default: <folder>/results.jsonl)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--timeout", type=int, default=480, help="seconds per piece that is named")
    parser.add_argument("--deadline", type=int, default=24 * 3600, help="seconds for everything: what has not run then is reported as such")
    parser.add_argument("--options", default="{}", help="JSON given to the pieces that are named")
    parser.add_argument("--label", default="", help="a word in every row of the pieces that are named")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _emit(row: dict, results: Path) -> None:
    line = json.dumps(row)
    print(line, flush=True)
    with results.open("a") as file:
        file.write(line + "\n")


def _here(args: argparse.Namespace, results: Path) -> None:
    import torch

    from .context import Context

    torch.set_grad_enabled(False)
    (piece,) = args.pieces
    context = Context(torch.device(args.device), args.tiny, args.folder, args.repeats)
    began = time.perf_counter()
    label = {"piece": piece, **({"label": args.label} if args.label else {})}
    try:
        for row in importlib.import_module(f"{__package__}.pieces.{piece}").run(context, json.loads(args.options)):
            _emit({**label, **row}, results)
    except Exception as error:
        traceback.print_exc()
        _emit({**label, "failed": f"{type(error).__name__}: {error}"[:400]}, results)
    _emit({**label, "what": "done", "seconds": round(time.perf_counter() - began, 1)}, results)


def _lane(runs: list[Run], number: int, args: argparse.Namespace, results: Path, end: float) -> None:
    """Every lane has a folder and, on CUDA, a device of its own."""
    path = os.pathsep.join([str(ROOT / "sidecar" / "hosts" / "python"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **({"CUDA_VISIBLE_DEVICES": str(number)} if args.devices > 1 else {})}
    folder = args.folder if number == 0 else args.folder / f"lane-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    common = [
        "--device",
        args.device,
        "--folder",
        str(folder),
        "--results",
        str(results),
        "--repeats",
        str(args.repeats),
        *(["--tiny"] if args.tiny else []),
        "--in-process",
    ]
    for run in runs:
        seconds = min(run.seconds, end - time.monotonic())
        if seconds < 5:
            _emit({"piece": run.piece, "label": run.label, "not run": "the time of the whole bench was over"}, results)
            continue
        try:
            code = subprocess.run(
                [sys.executable, "-m", "bench.gpu", *arguments(run), *common], cwd=ROOT, env=environment, timeout=seconds, check=False
            ).returncode
            if code != 0:
                _emit({"piece": run.piece, "label": run.label, "failed": f"the process ended with {code}"}, results)
        except subprocess.TimeoutExpired:
            _emit({"piece": run.piece, "label": run.label, "failed": f"stopped after {seconds:.0f} s"}, results)


def _summarise(results: Path) -> None:
    """One JSON of the whole run, peers included, beside its rows: the form of bench/results."""
    rows = read_rows(results)
    computer, versions = here(rows)
    command = " ".join(["python -m bench.gpu", *sys.argv[1:]])
    found = summary(rows, date=date.today().isoformat(), command=command, computer=computer, versions=versions)
    out = results.with_name("summary.json")
    out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps({"summary": str(out), "rows": len(found["rows"])}), flush=True)


def main() -> None:
    args = _arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    results = (args.results or args.folder / "results.jsonl").absolute()
    args.folder = args.folder.absolute()
    if args.in_process:
        _here(args, results)
        return
    lanes = lanes_of(args.pieces, json.loads(args.options), args.timeout, args.label)
    lanes = lanes if args.lane is None else lanes[args.lane : args.lane + 1]
    end = time.monotonic() + args.deadline
    threads = [
        threading.Thread(target=_lane, args=(runs, number, args, results, end)) for number, runs in enumerate(spread(lanes, args.devices))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _summarise(results)


main()
