"""One command for the whole table: runs each piece in its own process, so that a crash or a time-out loses only that piece.

Prints one JSON line per figure as it is measured, and keeps them in <folder>/results.jsonl.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIECES = ("machine", "kernel", "swap", "correctness", "checkpoint", "steps", "compiled", "warm", "shapes", "capped", "peers", "host", "families", "flux_kernels", "flux", "flux_swap", "flux_sensitivity")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("pieces", nargs="*", help=f"some of: {', '.join(PIECES)} (all)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small structure, to try the bench itself on a CPU")
    parser.add_argument("--folder", type=Path, default=Path("bench-gpu-data"), help="random checkpoints and adapters are kept here")
    parser.add_argument("--results", type=Path, help="JSON lines go here too (default: <folder>/results.jsonl)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--timeout", type=int, default=480, help="seconds per piece")
    parser.add_argument("--options", default="{}", help="JSON given to the pieces")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _emit(row: dict, results: Path) -> None:
    line = json.dumps(row)
    print(line, flush=True)
    with results.open("a") as file:
        file.write(line + "\n")


def _here(piece: str, args: argparse.Namespace, results: Path) -> None:
    import torch

    from .context import Context

    torch.set_grad_enabled(False)
    context = Context(torch.device(args.device), args.tiny, args.folder, args.repeats)
    began = time.perf_counter()
    try:
        for row in importlib.import_module(f"{__package__}.pieces.{piece}").run(context, json.loads(args.options)):
            _emit({"piece": piece, **row}, results)
    except Exception as error:
        traceback.print_exc()
        _emit({"piece": piece, "failed": f"{type(error).__name__}: {error}"[:400]}, results)
    _emit({"piece": piece, "what": "done", "seconds": round(time.perf_counter() - began, 1)}, results)


def main() -> None:
    args = _arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    results = args.results or args.folder / "results.jsonl"
    pieces = args.pieces or list(PIECES)
    if args.in_process:
        _here(pieces[0], args, results)
        return
    path = os.pathsep.join([str(ROOT / "sidecar" / "hosts" / "python"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    rest = [a for a in sys.argv[1:] if a not in args.pieces]
    for piece in pieces:
        try:
            code = subprocess.run(
                [sys.executable, "-m", "bench.gpu", piece, *rest, "--in-process"], cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
                timeout=args.timeout, check=False,
            ).returncode  # fmt: skip
            if code != 0:
                _emit({"piece": piece, "failed": f"the process ended with {code}"}, results)
        except subprocess.TimeoutExpired:
            _emit({"piece": piece, "failed": f"stopped after {args.timeout} s"}, results)


main()
