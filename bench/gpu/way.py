"""The way of a step's tensors on a card: what the plugin waits for over the host's own time, with device segments and without, in one run of the real product.

`python -m bench.gpu.way --node NODE` (from the root, after `npm run build`). This process runs on the allocator that ComfyUI takes. SDXL's shapes with random weights, batch 2 at
1024 squared, without ControlNet and with its residuals (107 MB a step). With --tiny on a CPU it tries itself. Prints JSON lines; the last one says what held.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "plugin"), str(ROOT / "sidecar" / "hosts" / "python")]

ALLOCATOR = "backend:cudaMallocAsync"
STEPS = 30
# Of ComfyUI's Euler sampler, per step.
SIGMA = (14.6, 11.0)
TARGET_MS = 1.0


def call_of(run: Any, batch: int, cells: int, device: Any, residuals: bool) -> Any:
    """A denoiser call as the plugin makes it of ComfyUI's, with random tensors of the engine's inputs on the device."""
    import torch
    from refit_sidecar_plugin.ui.denoising import Call

    make = torch.Generator(device).manual_seed(3)
    sizes = {"batch": batch, "tokens": 77, "height": cells, "width": cells}
    sizes |= {f"{axis}_{part}": -(-cells // part) for axis in ("height", "width") for part in (2, 4, 8, 16)}
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    tensors, more = {}, []
    for name, axes in run.inputs.items():
        shape = [sizes.get(axis, axis) for axis in axes]
        value = (
            torch.full(shape, 501.0, device=device) if name == "timestep" else torch.randn(shape, generator=make, device=device).to(dtype)
        )
        if "residual" in name:
            more.append(value * 0.01)
        else:
            tensors[name] = value
    once = frozenset({"encoder_hidden_states", "y"} & tensors.keys())
    return Call(tensors, once, tuple(more) if residuals else (), tensors["sample"])


class Bench:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        import torch

        from . import product

        self.torch, self.log, self.held = torch, product.log, {}
        self.device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        self.cells = 8 if args.tiny else 128
        self.steps = 5 if args.tiny else STEPS
        files = product.Files(folder, product.shapes_of(args.tiny), self.device)
        name = files.checkpoint("base", 1)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.product = product.Product(args.node, folder, files, ["--tier", args.tier])
        self.checkpoint = self.product.entry(name)["id"]

    def settle(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def holds(self, what: str, holds: bool, **facts: Any) -> None:
        self.held[what] = bool(holds)
        self.log(what=what, holds=bool(holds), **facts)

    def opened(self, residuals: bool) -> tuple[Any, Any]:
        from refit_sidecar_plugin.engine import EngineRun, Wanted
        from refit_sidecar_plugin.ui.denoising import Answerer

        run = EngineRun(self.product.client, Wanted(self.checkpoint, (), host="torch", residuals=residuals), check=lambda: None)
        run.prepare()
        return run, Answerer(run)

    def steps_of(self, run: Any, answer: Any, call: Any) -> dict[str, Any]:
        """As the plugin waits: from tensors that are ready on the device to an output that is."""
        waited, over = [], []
        for _ in range(self.steps):
            # The answer of the step before, if its bell rang: a sampler's own work takes longer than that.
            before = run.report.engine_ms
            self.settle()
            began = time.perf_counter()
            answer(call)
            self.settle()
            took = (time.perf_counter() - began) * 1000
            waited.append(took)
            over.append(took - (run.report.engine_ms - before))
        over = sorted(over[2:])
        return {"step_ms": round(statistics.median(waited[2:]), 2), "over_host_ms": round(statistics.median(over), 3),
                "p95_over_ms": round(over[int(len(over) * 0.95) - 1], 3), "least_over_ms": round(over[0], 3)}  # fmt: skip

    def parts(self, answer: Any, call: Any) -> dict[str, Any]:
        """Where the time over the host's own goes: the client's two copies, and a call that the sidecar answers at once."""
        on, taken = answer._on_device, {"write_ms": [], "read_ms": [], "ping_ms": []}
        rang, run = 0, on._run
        transport, marks = self.product.client.session()._transport, {"sent": 0.0, "came": 0.0}
        sending, coming = transport.send, transport._on_message

        def send(message: Any, text: bool) -> None:
            marks["sent"] = time.perf_counter()
            sending(message, text=text)

        def come(message: Any) -> None:
            marks["came"] = time.perf_counter()
            coming(message)

        transport.send, transport._on_message = send, come
        taken |= {"to_send_ms": [], "send_to_answer_over_host_ms": []}

        def timed(name: str, action: Any) -> Any:
            def run(*args: Any) -> Any:
                began = time.perf_counter()
                out = action(*args)
                taken[name].append((time.perf_counter() - began) * 1000)
                return out

            return run

        on._write, on._read = timed("write_ms", on._write), timed("read_ms", on._read)
        ping = timed("ping_ms", lambda: self.product.call("ping"))
        for _ in range(self.steps):
            before, began = run.report.engine_ms, time.perf_counter()
            answer(call)
            rang += run._late is not None
            sent = marks["sent"]
            # The answer is here once the figures are read.
            inside = run.report.engine_ms - before
            taken["to_send_ms"].append((sent - began) * 1000)
            taken["send_to_answer_over_host_ms"].append((marks["came"] - sent) * 1000 - inside)
            ping()
        transport.send, transport._on_message = sending, coming
        del on._write, on._read
        return {**{name: round(statistics.median(times), 3) for name, times in taken.items()}, "bells": f"{rang} of {self.steps}"}

    def sampled(self, answer: Any, call: Any) -> float:
        """Milliseconds a step of a bare Euler loop, which waits for nothing itself."""
        from dataclasses import replace

        x = call.x.clone()
        self.settle()
        began = time.perf_counter()
        for _ in range(self.steps):
            out = answer(replace(call, tensors={**call.tensors, "sample": x}, x=x))
            x = x + (x - out) / SIGMA[0] * (SIGMA[1] - SIGMA[0]) * 1e-3
        self.settle()
        return round((time.perf_counter() - began) * 1000 / self.steps, 2)

    def ways(self, residuals: bool) -> None:
        run, answer = self.opened(residuals)
        call = call_of(run, 2, self.cells, self.device, residuals)
        label = "with ControlNet's residuals" if residuals else "plain"
        outputs = {}
        for turn in range(2):
            for name, off in (("device segments", False), ("files", True)):
                answer._on_device._off = off
                outputs[name] = answer(call)
                row = self.steps_of(run, answer, call)
                self.log(
                    what=f"{label}, {name}, turn {turn}",
                    euler_ms=self.sampled(answer, call),
                    **row,
                )
                if name == "device segments":
                    self.held[f"{label}: at most {TARGET_MS} ms over the host's own time"] = row["over_host_ms"] <= TARGET_MS
        answer._on_device._off = False
        self.log(what=f"{label}, parts", **self.parts(answer, call))
        same = self.torch.equal(outputs["device segments"], outputs["files"])
        self.holds(f"{label}: both ways give equal bits", same, finite=bool(self.torch.isfinite(outputs["files"]).all()))
        on = run.report.on_device
        self.holds(f"{label}: steps went by device segment", on >= 2 * (self.steps + 1) and not run.report.not_on_device,
                   on_device=on, steps=run.report.steps, reason=run.report.not_on_device, status=self.product.call("status").result["deviceSegments"])  # fmt: skip
        run.close()

    def host_killed(self) -> None:
        """In a step: the step that was lost is right, and the next ones are by device segment again."""
        run, answer = self.opened(True)
        call = call_of(run, 2, self.cells, self.device, True)
        expected = answer(call).clone()
        pid = next(host["pid"] for host in self.product.call("status").result["hosts"] if host["kind"] == "torch")
        os.kill(pid, signal.SIGSTOP)
        session = self.product.client.session()
        sending = session.start

        def start(method: str, *args: Any, **named: Any) -> Any:
            pending = sending(method, *args, **named)
            if method == "engine.step":
                session.start = sending
                os.kill(pid, signal.SIGKILL)
            return pending

        session.start = start
        began = time.perf_counter()
        out = answer(call)
        self.settle()
        self.holds("host killed in a step: right", self.torch.equal(out, expected), seconds=round(time.perf_counter() - began, 2))
        before = run.report.on_device
        right = self.torch.equal(answer(call), expected)
        self.holds(
            "the next step, by the new host's segment: right", right and run.report.on_device == before + 1, reason=run.report.not_on_device
        )
        run.close()

    def client_killed(self) -> None:
        """Another client dies between steps: its segment goes, and its memory is free again."""
        free = self.free()
        other = subprocess.Popen(
            [sys.executable, "-m", "bench.gpu.way", "--dies", str(self.product.data)], stdout=subprocess.PIPE, text=True
        )
        line = other.stdout.readline().strip() if other.stdout else ""
        during = self.product.call("status").result["deviceSegments"]
        other.kill()
        other.wait()
        deadline = time.monotonic() + 10
        while (after := self.product.call("status").result["deviceSegments"])["count"] >= during["count"] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        self.holds("client killed: its segment went", line == "1" and after["count"] == during["count"] - 1, said=line, during=during, after=after,
                   free_before=free, free_after=self.free())  # fmt: skip
        run, answer = self.opened(False)
        answer(call_of(run, 2, self.cells, self.device, False))
        self.holds("others go on by device segment", run.report.on_device == 1, reason=run.report.not_on_device)
        run.close()

    def free(self) -> int:
        return self.torch.cuda.mem_get_info()[0] if self.device.type == "cuda" else 0


def dies(data: Path, tiny: bool) -> None:
    """A client that is killed in the middle of steps with ControlNet's residuals."""
    import torch
    from refit_sidecar_plugin.client import SidecarClient
    from refit_sidecar_plugin.engine import EngineRun, Wanted
    from refit_sidecar_plugin.ui.denoising import Answerer

    client = SidecarClient("dies", "1", data)
    entry = next(row for row in client.call("catalog.list", {"kind": "checkpoint"}).result["entries"] if row["sha256"])
    run = EngineRun(client, Wanted(entry["id"], (), host="torch", residuals=True), check=lambda: None)
    run.prepare()
    answer = Answerer(run)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    call = call_of(run, 2, 8 if device.type == "cpu" else 128, device, True)
    answer(call)
    print(run.report.on_device, flush=True)
    while True:
        answer(call)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.way", description=__doc__)
    parser.add_argument("--node", default="node")
    parser.add_argument("--folder", type=Path, default=Path("bench-gpu-data") / "way")
    parser.add_argument("--tier", default="graphs", help="no compiler beside the measurement")
    parser.add_argument("--tiny", action="store_true", help="the demo's structure, to try the bench itself")
    parser.add_argument("--out", type=Path, help="the sidecar's log goes here at the end")
    parser.add_argument("--dies", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if os.environ.get("PYTORCH_CUDA_ALLOC_CONF") != ALLOCATOR:
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = ALLOCATOR
        os.execv(sys.executable, [sys.executable, "-m", "bench.gpu.way", *sys.argv[1:]])
    import torch

    torch.set_grad_enabled(False)
    if args.dies is not None:
        dies(args.dies, args.tiny)
        return 0
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(args, folder)
    try:
        for piece in (lambda: bench.ways(False), lambda: bench.ways(True), bench.client_killed, bench.host_killed):
            try:
                piece()
            except Exception as error:  # noqa: BLE001 - one piece that fails must not hide the others
                bench.holds(f"piece {len(bench.held)}", False, failed=f"{type(error).__name__}: {error}"[:600])
    finally:
        bench.product.close()
        if args.out is not None:
            args.out.write_bytes(bench.product.log_path.read_bytes()[-4_000_000:])
    allocator = torch.cuda.get_allocator_backend() if torch.cuda.is_available() else "none"
    bench.log(what="verdict", holds=all(bench.held.values()), held=bench.held, allocator=allocator)
    return 0 if all(bench.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
