"""The product itself on a card: the sidecar as a UI starts it, its own host, the plugin's client. One run in the order of a user's day; every figure is what the client waited for.

`python -m bench.gpu.product --node NODE` (from the root, after `npm run build`). Random files of real size. The environment is a hostile one
(ComfyUI's allocator), as it is under a UI.
With --tiny on a CPU it tries itself in a minute. Prints JSON lines; the last one says what was asserted and whether it held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "plugin"), str(ROOT / "sidecar" / "hosts" / "python")]

from refit_sidecar_plugin.client import SidecarClient, Tensor  # noqa: E402
from refit_sidecar_plugin.engine import EngineRun, StackEntry, Wanted  # noqa: E402
from refit_sidecar_plugin.ui.denoising.tensors import to_wire  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from . import data  # noqa: E402

# What ComfyUI sets for itself on a CUDA card, and what else a UI's process may carry.
HOSTILE = {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
# Sent once a run, as the samplers' plugin does.
ONCE = frozenset({"encoder_hidden_states", "y"})
STEPS = 20
WAIT_TIER_S = 170


def log(**row: Any) -> None:
    print(json.dumps(row), flush=True)


class Files:
    """A checkpoint in ComfyUI's spelling and LoRAs of it, in a UI's folders."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]], device: torch.device) -> None:
        self.checkpoints, self.loras = folder / "checkpoints", folder / "loras"
        self._shapes, self._device = shapes, device
        for made in (self.checkpoints, self.loras):
            made.mkdir(parents=True, exist_ok=True)

    def checkpoint(self, name: str, seed: int, prefix: str = "model.diffusion_model.", dtype: torch.dtype = torch.float16) -> str:
        path = self.checkpoints / f"{name}.safetensors"
        make = torch.Generator(self._device).manual_seed(seed)
        save_file(
            {prefix + key: data.random_value(key, shape, self._device, make).to(dtype).cpu() for key, shape in self._shapes.items()}, path
        )
        return path.name

    def lora(self, name: str, seed: int, rank: int) -> str:
        path = self.loras / f"{name}.safetensors"
        make = torch.Generator(self._device).manual_seed(seed)
        tensors: dict[str, torch.Tensor] = {}
        for key in data.linear_layers(self._shapes):
            if not key.endswith(".weight") or len(self._shapes[key]) != 2:
                continue
            stem, (rows, columns) = f"diffusion_model.{key.removesuffix('.weight')}", self._shapes[key]
            tensors[f"{stem}.lora_up.weight"] = (torch.randn(rows, rank, device=self._device, generator=make) * 0.02).half().cpu()
            tensors[f"{stem}.lora_down.weight"] = (
                (torch.randn(rank, columns, device=self._device, generator=make) * (0.7 / columns**0.5)).half().cpu()
            )
            tensors[f"{stem}.alpha"] = torch.tensor(float(rank) / 2)
        save_file(tensors, path)
        return path.name


class Product:
    """The sidecar as the plugin's launcher starts it, in a data folder of its own."""

    def __init__(self, node: str, folder: Path, files: Files, arguments: list[str]) -> None:
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        command = [node, str(ROOT / "sidecar" / "bin" / "refit-sidecar.mjs"), "serve", "--data-dir", str(self.data), "--loras", str(files.loras),
                   "--checkpoints", str(files.checkpoints), "--python", sys.executable, "--host", "torch", "--log-level", "debug", *arguments]  # fmt: skip
        self.log_path = folder / "sidecar.log"
        with self.log_path.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **HOSTILE}
            )
        deadline = time.monotonic() + 60
        while not (self.data / "sidecar.json").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the sidecar did not start:\n{self.log_path.read_text()[-3000:]}")
            time.sleep(0.05)
        self.client = SidecarClient("bench", "1", self.data)
        self.events: list[dict[str, Any]] = []
        self.client.subscribe(["engine", "host", "job", "refit"], self.events.append)

    def call(self, method: str, params: dict[str, Any] | None = None, tensors: list[Tensor] | None = None, timeout_s: float = 400) -> Any:
        return self.client.call(method, params or {}, tensors or [], timeout_s=timeout_s)

    def entry(self, name: str) -> dict[str, Any]:
        """Of a file, once its content is known."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for row in self.call("catalog.list", {"limit": 200}).result["entries"]:
                if row["name"].rsplit("/", 1)[-1] == name and row["sha256"]:
                    return row
            time.sleep(0.1)
        raise SystemExit(f"{name} was not catalogued")

    def engine(self) -> dict[str, Any]:
        return self.call("engine.list").result["engines"][0]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.client.close()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        if self.process.poll() is None:
            self.process.kill()

    def lines(self, *words: str) -> list[str]:
        return [line for line in self.log_path.read_text(errors="replace").splitlines() if any(word in line for word in words)]


class Run:
    """A lease and the plugin's own way of a step, as a sampler holds it."""

    def __init__(self, product: Product, checkpoint: str, stack: list[tuple[str, float]], residuals: bool = False) -> None:
        self._run = EngineRun(
            product.client,
            Wanted(checkpoint, tuple(StackEntry(*entry) for entry in stack), host="torch", residuals=residuals),
            check=lambda: None,
        )
        began = time.perf_counter()
        self._run.prepare()
        self.prepare_ms = (time.perf_counter() - began) * 1000
        self.refit_ms = self._run.report.refit_ms
        self.inputs = self._run.inputs

    def step(self, inputs: dict[str, Tensor]) -> tuple[bytes, float, float]:
        """(output, ms as waited, ms in the host)"""
        before, began = self._run.report.engine_ms, time.perf_counter()
        out = self._run.step(inputs, frozenset(inputs) & ONCE)
        return bytes(out.data), (time.perf_counter() - began) * 1000, self._run.report.engine_ms - before

    def close(self) -> None:
        self._run.close()


def inputs_of(run: Run, batch: int, cells: int, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of the inputs that prepare listed."""
    make, out = torch.Generator().manual_seed(seed), {}
    sizes = {
        "batch": batch,
        "tokens": 77,
        "height": cells,
        "width": cells,
        **{f"{axis}_{part}": -(-cells // part) for axis in ("height", "width") for part in (2, 4, 8, 16)},
    }
    for name, axes in run.inputs.items():
        shape = [sizes.get(axis, axis) for axis in axes]
        value = torch.full(shape, 501.0) if name == "timestep" else torch.randn(shape, generator=make).half()
        out[name] = to_wire(name, value)
    return out


def picture(run: Run, inputs: dict[str, Tensor], steps: int = STEPS) -> dict[str, Any]:
    """One run's steps: medians and the slowest, so that a stall shows."""
    out, waited, inside = b"", [], []
    for _ in range(steps):
        out, caller, host = run.step(inputs)
        waited.append(caller)
        inside.append(host)
    return {"out": out, "first_ms": round(waited[0], 1), "step_ms": round(statistics.median(waited[1:]), 2), "host_ms": round(statistics.median(inside[1:]), 2),
            "slowest_ms": round(max(waited[1:]), 1)}  # fmt: skip


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "out"}


class Day:
    """The steps of the day; what they assert is kept in `held`."""

    def __init__(self, args: argparse.Namespace, folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
        self.args, self.held = args, {}
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.cells = 8 if args.tiny else 128
        began = time.perf_counter()
        self.files = Files(folder, shapes, device)
        self.names = {"base": self.files.checkpoint("base", 1), "other": self.files.checkpoint("other", 2)}
        self.names |= {
            name: self.files.lora(name, seed, rank) for name, seed, rank in (("a", 11, 16), ("b", 12, 16), ("c", 13, 16), ("d", 14, 16))
        }
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log(
            what="files",
            seconds=round(time.perf_counter() - began, 1),
            bytes={path.name: path.stat().st_size for path in sorted(folder.glob("*/*.safetensors"))},
        )
        began = time.perf_counter()
        self.product = Product(args.node, folder, self.files, ["--tier", args.tier])
        self.ids = {key: self.product.entry(name)["id"] for key, name in self.names.items()}
        log(what="sidecar up, files catalogued", seconds=round(time.perf_counter() - began, 1))

    def held_by(self, what: str, holds: bool, **facts: Any) -> None:
        self.held[what] = bool(holds)
        log(what=what, holds=bool(holds), **facts)

    def run(self, stack: list[tuple[str, float]] = (), checkpoint: str = "base", **more: Any) -> Run:  # type: ignore[assignment]
        return Run(self.product, self.ids[checkpoint], [(self.ids[name], strength) for name, strength in stack], **more)

    def first_picture(self) -> None:
        began = time.perf_counter()
        run = self.run()
        self.inputs = inputs_of(run, 2, self.cells)
        row = picture(run, self.inputs)
        self.plain = row["out"]
        log(
            what="first picture",
            seconds=round(time.perf_counter() - began, 2),
            prepare_ms=round(run.prepare_ms, 1),
            **shown(row),
            tier=self.product.engine()["serving"],
        )
        run.close()

    def tier_now(self) -> str:
        return (self.product.engine()["serving"] or {}).get("tier", "")

    def refits(self, label: str) -> None:
        """A, B, A again, strength, a stack of four, back to none, each followed by a picture: while the compiler is at work, or after it."""
        seen: dict[str, bytes] = {}
        before = self.tier_now()
        four = [(name, 0.5) for name in "abcd"]
        stacks = {
            "a": [("a", 0.8)],
            "b": [("b", 0.8)],
            "a again": [("a", 0.8)],
            "strength": [("a", 0.6)],
            "stack of 4": four,
            "none": [],
            "stack again": four,
        }
        for name, stack in stacks.items():
            run = self.run(stack)
            row = picture(run, self.inputs, 5)
            seen[name] = row["out"]
            log(what=f"{label}: {name}", prepare_ms=round(run.prepare_ms, 1), refit_ms=run.refit_ms, **shown(row))
            run.close()
        after = self.tier_now()
        if before == after:
            self.held_by(f"{label}: A to B to A is bit-identical", seen["a"] == seen["a again"], tier=after)
        else:
            log(what=f"{label}: another tier took over in between", before=before, after=after)
        self.held_by(f"{label}: B differs from A", seen["a"] != seen["b"])

    def tier(self) -> None:
        """The compiled tier comes, though LoRAs changed while it compiled."""
        began = time.perf_counter()
        deadline = began + (5 if self.args.tiny else WAIT_TIER_S)
        serving: dict[str, Any] = {}
        while time.perf_counter() < deadline:
            serving = self.product.engine()["serving"] or {}
            if "stage 2 of 2" in serving.get("tier", "") or serving.get("refused") or serving.get("tier", "").startswith("fused"):
                break
            time.sleep(0.5)
        told = [
            event["event"]["serving"]["tier"] for event in self.product.events if event.get("event", {}).get("type") == "engine.serving"
        ]
        self.held_by(
            "the tier was reached, and told",
            not serving.get("refused") and bool(told),
            seconds=round(time.perf_counter() - began, 1),
            serving=serving,
            told=told,
        )

    def sizes(self) -> None:
        for batch, cells in ((1, self.cells), (4, self.cells), (8, self.cells), (2, self.cells * 3 // 2)):
            run = self.run()
            row = picture(run, inputs_of(run, batch, cells), 6)
            log(what=f"batch {batch}, {cells * 8} px", **shown(row))
            run.close()

    def control_net(self) -> None:
        run = self.run(residuals=True)
        row = picture(run, inputs_of(run, 2, self.cells), 6)
        log(what="ControlNet residuals", **shown(row))
        run.close()

    def other_checkpoint(self) -> None:
        for name in ("other", "base"):
            run = self.run(checkpoint=name)
            row = picture(run, self.inputs, 3)
            log(what=f"checkpoint {name}", prepare_ms=round(run.prepare_ms, 1), **shown(row))
            run.close()
        memory = self.product.call("status").result["memory"]
        log(what="memory after two checkpoints", device_bytes=(self.product.engine()["serving"] or {}).get("deviceBytes"), **memory)

    def killed(self) -> None:
        """The engine host dies in the middle of a picture."""
        run = self.run()
        run.step(self.inputs)
        pid = next(host["pid"] for host in self.product.call("status").result["hosts"] if host["kind"] == "torch")
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        out = b""
        while not out and time.perf_counter() - began < 90:
            try:
                out, _, _ = run.step(self.inputs)
            except Exception:  # noqa: BLE001 - the step that was cut off, or one that came before the host was back
                with contextlib.suppress(Exception):
                    run = self.run()
        log(what="engine host killed: next output", seconds=round(time.perf_counter() - began, 2), right=bool(out))
        self.held_by("a picture after the kill", bool(out))


def shapes_of(tiny: bool) -> dict[str, tuple[int, ...]]:
    name = "demo" if tiny else "sdxl"
    table = json.loads((ROOT / "sidecar" / "graphs" / name / "graph.json").read_text())
    return {row["parameter"]: tuple(row["shape"]) for row in table["refitMap"]}


def watched() -> Callable[[], int]:
    """Most device memory that programs other than this one held, by the driver's word; 0 where nobody can tell."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                most[0] = max(most[0], total - free)

    threading.Thread(target=look, daemon=True).start()
    return lambda: (ended.set(), most[0])[1]


def pieces(day: Day) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "first picture", day.first_picture
    yield "refits beside the compiler", lambda: day.refits("beside the compiler")
    yield "tier", day.tier
    yield "refits", lambda: day.refits("settled")
    yield "sizes", day.sizes
    yield "ControlNet", day.control_net
    yield "checkpoints", day.other_checkpoint
    yield "kill", day.killed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.product", description=__doc__)
    parser.add_argument("--node", default="node")
    parser.add_argument("--folder", type=Path, default=Path("bench-gpu-data") / "product")
    parser.add_argument("--tier", default="auto")
    parser.add_argument("--tiny", action="store_true", help="the demo's structure, to try the bench itself")
    parser.add_argument("--out", type=Path, help="the sidecar's log goes here at the end")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    day = Day(args, folder, shapes_of(args.tiny))
    most = watched()
    try:
        for name, piece in pieces(day):
            try:
                piece()
            except Exception as error:  # noqa: BLE001 - one piece that fails must not hide the others
                day.held_by(name, False, failed=f"{type(error).__name__}: {error}"[:600])
    finally:
        day.product.close()
        crashes = day.product.lines("SIGABRT", "host.crashed", "ended: signal", "CUDA error", "uncaptured free", "invalid argument")
        log(what="host's troubles in the log", lines=crashes[-12:])
        if args.out is not None:
            args.out.write_bytes(day.product.log_path.read_bytes()[-4_000_000:])
    jobs = sum(event.get("event", {}).get("type") in ("job.changed", "job.many") for event in day.product.events)
    log(what="verdict", holds=all(day.held.values()), held=day.held, job_events=jobs, most_device_bytes=most())
    return 0 if all(day.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
