"""Several cards behind one sidecar: clients with many stacks of LoRAs, on one card and on several, in one run.

`python -m bench.gpu.pool --node NODE` (from the root, after `npm run build`). Random files of SDXL's size. Each client is a process of its own with the plugin's
client: it draws one of the stacks at random, makes a series of pictures with it, then draws again. Every picture is a lease of its own: prepared, stepped, released.
Three phases of the same length: one device; all devices; all devices where placement looks at load alone. Waits are what a client waits for a step beyond the step itself.
With --tiny on a CPU it tries itself in a minute (two hosts on the processor). Prints JSON lines; the last one says what was asserted and whether it held.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from .product import Files, Product, Run, inputs_of, log, shapes_of

LORAS = 10
RANK = 16
# Stacks: each LoRA alone, and each with another one.
STACKS = [[(i, 0.8)] for i in range(LORAS)] + [[(i, 0.6), ((i + 3) % LORAS, 0.6)] for i in range(LORAS)]
# What the cards of the second phase have to do of what one does, by their number; others: 0.95 a card.
LEAST_SCALING = {2: 1.95, 4: 3.8}
MOST_REFITS = 0.3


class Follower:
    """What `Run` asks of a product, in a client's own process."""

    def __init__(self, data: Path) -> None:
        from refit_sidecar_plugin.client import SidecarClient

        self.client = SidecarClient("bench", "1", data)


def client(index: int, data: str, ids: dict[str, str], given: dict[str, Any], ready: Any, go: Any, results: Any) -> None:
    """One client: (when, waited, in the host) of every step, (when, ms until the first step's answer) of every picture, and what each stack drew."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    product: Any = Follower(Path(data))
    draw = random.Random(1000 + index)
    steps: list[tuple[float, float, float]] = []
    pictures: list[tuple[float, float]] = []
    drawn: dict[str, set[str]] = {}
    failed: list[str] = []
    inputs: dict[str, Any] | None = None
    ready.release()
    go.wait()
    end = time.time() + given["seconds"]
    while time.time() < end:
        stack = draw.randrange(len(STACKS))
        for _ in range(given["series"]):
            if time.time() >= end:
                break
            began, first = time.time(), 0.0
            try:
                run = Run(product, ids["base"], [(ids[f"lora{lora}"], strength) for lora, strength in STACKS[stack]])
                inputs = inputs or inputs_of(run, 2, given["cells"])
                out = b""
                for _ in range(given["steps"]):
                    out, waited, inside = run.step(inputs)
                    steps.append((time.time(), waited, inside))
                    first = first or (time.time() - began) * 1000
                run.close()
            except Exception as error:  # noqa: BLE001 - counted and told; the other clients go on
                failed.append(f"{type(error).__name__}: {error}"[:300])
                continue
            pictures.append((began, first))
            drawn.setdefault(str(stack), set()).add(hashlib.sha256(out).hexdigest())
    product.client.close()
    results.put((steps, pictures, {stack: sorted(seen) for stack, seen in drawn.items()}, failed))


def percentile(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 1) if values else 0.0


class Pool:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        began = time.perf_counter()
        self.files = Files(folder, shapes_of(args.tiny), device)
        self.names = {"base": self.files.checkpoint("base", 1)}
        self.names |= {f"lora{i}": self.files.lora(f"lora{i}", 11 + i, RANK) for i in range(LORAS)}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log(what="files", seconds=round(time.perf_counter() - began, 1), bytes=sum(path.stat().st_size for path in folder.glob("*/*.safetensors")))  # fmt: skip
        self.config = folder / "pool.toml"
        self.place("affinity")

    def place(self, by: str) -> None:
        self.config.write_text(f'placement = "{by}"\n')

    def start(self, devices: str) -> tuple[Product, dict[str, str]]:
        """A sidecar whose devices all hold the structure, with every adapter ready."""
        began = time.perf_counter()
        # The data folder stays: what the first sidecar learned of the files is there for the second.
        (self.folder / "data" / "sidecar.json").unlink(missing_ok=True)
        more = ["--devices", devices, "--config", str(self.config), "--turn", str(self.args.turn), "--tier", self.args.tier]
        more += ["--log-level", "info", "--warm-stacks", "0"]
        product = Product(self.args.node, self.folder, self.files, more)
        ids = {key: product.entry(name)["id"] for key, name in self.names.items()}
        count = len(devices.split(","))
        runs = [Run(product, ids["base"], [(ids[f"lora{i}"], 0.8)]) for i in range(count)]
        inputs = inputs_of(runs[0], 2, self.cells)
        deadline = time.monotonic() + 150
        while not self.ready(product, count):
            # Runs that wait for each other are what a second device gets the structure for.
            threads = [threading.Thread(target=run.step, args=(inputs,)) for run in runs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if time.monotonic() > deadline:
                raise SystemExit(f"the devices did not get ready: {json.dumps(product.call('status').result['devices'])}")
        for run in runs:
            run.close()
        log(what=f"sidecar on {devices}", seconds=round(time.perf_counter() - began, 1), devices=product.call("status").result["devices"])
        return product, ids

    @property
    def cells(self) -> int:
        return 8 if self.args.tiny else 128

    def ready(self, product: Product, count: int) -> bool:
        status = product.call("status").result
        return sum(row["engines"] > 0 for row in status["devices"]) >= count and status["catalog"]["deltasReady"] >= LORAS

    def phase(self, name: str, product: Product, ids: dict[str, str]) -> dict[str, Any]:
        args = self.args
        context = multiprocessing.get_context("spawn")
        ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
        given = {"seconds": args.warm + args.seconds, "series": args.series, "steps": args.steps, "cells": self.cells}
        processes = [
            context.Process(target=client, args=(i, str(product.data), ids, given, ready, go, results), daemon=True)
            for i in range(args.clients)
        ]
        for process in processes:
            process.start()
        # Importing PyTorch in each of them is no part of the figures.
        if not all(ready.acquire(timeout=120) for _ in processes):
            raise SystemExit("the clients did not start within two minutes")
        go.set()
        began = time.time() + args.warm
        time.sleep(args.warm)
        before = product.call("status").result["totals"]
        seen: list[list[int]] = []
        while time.time() < began + args.seconds:
            time.sleep(0.5)
            seen.append([row["runs"] for row in product.call("status").result["devices"]])
        after = product.call("status").result["totals"]
        end = time.time()
        all_results = [results.get(timeout=120) for _ in processes]
        for process in processes:
            process.join(20)
        steps = [row for result in all_results for row in result[0] if began <= row[0] < end]
        pictures = [row for result in all_results for row in result[1] if began <= row[0] < end]
        waits = [waited - inside for _, waited, inside in steps]
        firsts = [first for _, first in pictures]
        drawn: dict[str, set[str]] = {}
        for result in all_results:
            for stack, hashes in result[2].items():
                drawn.setdefault(stack, set()).update(hashes)
        every = [value for hashes in drawn.values() for value in hashes]
        row = {
            "steps_per_s": round(len(steps) / (end - began), 2),
            "runs": len(pictures),
            "refits": after["refits"] - before["refits"],
            "refits_per_run": round((after["refits"] - before["refits"]) / max(1, len(pictures)), 3),
            "step_ms_in_host_p50": percentile([inside for _, _, inside in steps], 0.5),
            "wait_ms": {"p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99), "max": percentile(waits, 1)},
            "first_step_ms": {"p50": percentile(firsts, 0.5), "p99": percentile(firsts, 0.99)},
            "runs_by_device_mean": [round(statistics.mean(column), 2) for column in zip(*seen)],
            "failed": [text for result in all_results for text in result[3]][:5],
            # One output under two stacks would be an answer from another stack's weights.
            "crossed": len(every) - len(set(every)),
            "most_outputs_of_a_stack": max((len(hashes) for hashes in drawn.values()), default=0),
        }
        log(what=name, seconds=round(end - began, 1), **row)
        return row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.pool", description=__doc__)
    parser.add_argument("--node", default="node")
    parser.add_argument("--folder", type=Path, default=Path("bench-gpu-data") / "pool")
    parser.add_argument("--devices", default="0,1", help="those of the second and third phase; the first phase has the first of them")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--series", type=int, default=6, help="pictures that a client makes with one stack")
    parser.add_argument("--steps", type=int, default=20, help="steps of a picture")
    parser.add_argument("--turn", type=int, default=6000, help="the sidecar's option, ms")
    parser.add_argument("--tier", default="graphs")
    parser.add_argument("--warm", type=float, default=5, help="seconds of each phase that are not counted")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of each phase that are")
    parser.add_argument("--tiny", action="store_true", help="the demo's structure on cpu:0,cpu:1, to try the bench itself")
    parser.add_argument("--out", type=Path, help="one JSON file with everything")
    args = parser.parse_args()
    if args.tiny:
        args.devices = "cpu:0,cpu:1"
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    pool = Pool(args, folder)
    devices = args.devices.split(",")
    rows: dict[str, dict[str, Any]] = {}
    product, ids = pool.start(devices[0])
    try:
        rows["one"] = pool.phase("one device", product, ids)
    finally:
        product.close()
    product, ids = pool.start(args.devices)
    try:
        rows["all"] = pool.phase(f"{len(devices)} devices", product, ids)
        pool.place("load")
        # The file is looked at every second.
        time.sleep(2.5)
        rows["load"] = pool.phase(f"{len(devices)} devices, affinity off", product, ids)
    finally:
        product.close()
        sidecar_log = product.lines("warn", "error")
    scaling = round(rows["all"]["steps_per_s"] / max(0.01, rows["one"]["steps_per_s"]), 3)
    least = LEAST_SCALING.get(len(devices), 0.95 * len(devices))
    held = {
        f"steps/s at least {least}x of one device": scaling >= least,
        f"refits per run at most {MOST_REFITS} with affinity": rows["all"]["refits_per_run"] <= MOST_REFITS,
        "no answer failed, none came from another stack's weights": not any(row["failed"] or row["crossed"] for row in rows.values()),
    }
    machine = {"devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"], "torch": torch.__version__}
    method = {key: value for key, value in vars(args).items() if key not in ("node", "folder", "out")}
    verdict = {"what": "verdict", "holds": all(held.values()), "held": held, "scaling": scaling, "machine": machine, "method": method}
    log(**verdict, sidecar_log=sidecar_log[-8:])
    if args.out is not None:
        args.out.write_text(json.dumps({**verdict, "phases": rows}, indent=1))
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
