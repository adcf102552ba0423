"""What a user of ComfyUI waits for, in one server run: ComfyUI's own path, TorchCompileModel, the engine, and the engine beside a loaded MODEL.

    COMFYUI_DIR=... COMFYUI_PYTHON=... python -m bench.ui --folder SCRATCH [--size real|flux|z-image|tiny] [--precision fp8] [--ways own,engine] [--soak 200] --out FILE.jsonl

The plugin is linked into a scratch base directory and starts the sidecar by itself, as for a user. A probe node (bench/ui/probe) times the sampler:
`prep_ms` from the sampler's call to the first step's start, `step_ms` the sampling loop by its steps, device settled at both ends. `wall_ms` is from
POST /prompt to the history entry. Prints JSON lines; the last one says what was asserted: who served, finite latents, latents near ComfyUI's own,
equal bits after going back. Exit status 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "python" / "plugin" / "ui" / "comfyui"), str(ROOT / "plugin")]

from comfy_server import ComfyServer, comfy_python, skip_reason  # noqa: E402
from refit_sidecar_plugin.client import SidecarClient  # noqa: E402

from .card import run_cards  # noqa: E402
from .soak import soak  # noqa: E402
from .workflows import SETTINGS, WAYS, Prompt, graph, plan  # noqa: E402

# An engine in half precision beside ComfyUI's own half precision (bf16 for transformers, whose numbers are eight times as coarse); and the same in fp32.
NEAR = {"real": 5e-3, "flux": 0.05, "z-image": 0.05, "tiny": 1e-3}
# A quantised engine beside ComfyUI's own bf16 is another rounding of every weight: this only tells a picture of its own from a wrong one.
NEAR_QUANTISED = 0.3
PATIENCE_S = 600.0


class Bench:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.real = given, given.size != "tiny"
        self.setting = replace(SETTINGS[given.size], precision=given.precision)
        self.near = NEAR[given.size] if given.precision in ("auto", "bf16", "fp16", "fp32") else NEAR_QUANTISED
        self.pixels = 1024 if self.real else 64
        self.folder: Path = given.folder.resolve()
        self.probe = self.folder / "probe.jsonl"
        self.held: dict[str, bool] = {}
        self.own: dict[Prompt, torch.Tensor] = {}
        self.count = 0
        self.server: ComfyServer | None = None
        #: Of --card: device bytes that others hold; None without it.
        self.occupied: int | None = None
        self.out = open(given.out, "a", encoding="utf-8") if given.out else None
        for name in ("latents", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def log(self, **row: Any) -> None:
        text = json.dumps(row)
        print(text, flush=True)
        if self.out:
            self.out.write(text + "\n")
            self.out.flush()

    def hold(self, what: str, holds: bool, **facts: Any) -> None:
        self.held[what] = self.held.get(what, True) and bool(holds)
        if not holds:
            self.log(what="does not hold", of=what, **facts)

    # -- the server

    def start(self) -> float:
        """Starts ComfyUI; seconds until it answers."""
        self.probe.unlink(missing_ok=True)
        environment = {"REFIT_DATA_DIR": str(self.folder / "data"), "REFIT_BENCH_PROBE": str(self.probe)}
        if self.given.host_python:
            environment["REFIT_PYTHON"] = self.given.host_python
        if self.given.sidecar:
            environment["REFIT_SIDECAR"] = self.given.sidecar
        began = time.perf_counter()
        arguments = self.given.arguments.split() if self.given.arguments else []
        self.server = ComfyServer(
            self.folder / "base", environment=environment, arguments=arguments, nodes={"refit_bench_probe": ROOT / "bench" / "ui" / "probe"},
            device=() if torch.cuda.is_available() else ("--cpu",),
        ).ready()  # fmt: skip
        return time.perf_counter() - began

    def stop(self) -> None:
        if self.server is not None:
            (self.folder / "comfyui.log").write_text("\n".join(self.server.log), "utf-8")
            self.server.stop()

    def sidecar(self) -> SidecarClient:
        return SidecarClient("bench", "1", self.folder / "data")

    def engines(self) -> list[dict[str, Any]]:
        with contextlib.closing(self.sidecar()) as client:
            return client.call("engine.list", {}).result["engines"]

    # -- prompts

    def prompt(self, way: str, prompt: Prompt) -> tuple[dict[str, Any], torch.Tensor]:
        assert self.server is not None
        file = self.folder / "latents" / f"{self.count}.pt"
        self.count += 1
        before = self.server.call("/refit/facts")["lastRun"]
        began = time.perf_counter()
        lines = len(self.probe.read_text("utf-8").splitlines()) if self.probe.exists() else 0
        self.server.prompt(graph(way, prompt, self.setting, file), PATIENCE_S)
        if len(self.probe.read_text("utf-8").splitlines()) == lines:
            return {"not_run": "ComfyUI still had its latent"}, torch.load(file)
        row: dict[str, Any] = {"wall_ms": 1000 * (time.perf_counter() - began)}
        row |= json.loads(self.probe.read_text("utf-8").splitlines()[-1])
        row["step_ms"] = row["loop_ms"] / self.setting.steps if row["loop_ms"] else None
        run = self.server.call("/refit/facts")["lastRun"]
        if run is not None and run != before:
            report = run["report"]
            row |= {"served_by": run["served_by"], "reason": run["reason"], "refit_ms": report["refit_ms"], "prepare_ms": report["prepare_ms"],
                    "call_ms": report["step_ms"] / max(1, report["steps"]), "host_ms": report["engine_ms"] / max(1, report["steps"])}  # fmt: skip
        latent = torch.load(file)
        file.unlink()
        return {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}, latent

    def check(self, way: str, name: str, prompt: Prompt, row: dict[str, Any], latent: torch.Tensor) -> None:
        self.hold(f"{way}: latents are finite", bool(latent.isfinite().all()), prompt=name)
        own = self.own.setdefault(prompt, latent) if way == "own" else self.own.get(prompt)
        if own is not None and way != "own":
            row["from_own"] = error = float((own - latent).double().norm() / own.double().norm())
            self.hold(f"{way}: latents are near ComfyUI's own", error <= self.near, prompt=name, error=error)
        if self.occupied is not None:
            named = row.get("served_by") == "engine" or bool(row.get("reason"))
            self.hold(f"{way}: served by the engine, or the reason is named", named, prompt=name)
        elif way in ("engine", "accelerate"):
            self.hold(f"{way}: served by the engine", row.get("served_by") == "engine", prompt=name, reason=row.get("reason"))

    def table(self, way: str, prompts: Iterable[tuple[str, Prompt]]) -> list[dict[str, Any]]:
        seen: dict[tuple[Prompt, str], torch.Tensor] = {}
        rows = []
        for name, prompt in prompts:
            try:
                row, latent = self.prompt(way, prompt)
            except AssertionError as error:
                self.hold(f"{way}: {name}", False, error=str(error)[-1500:])
                continue
            if "not_run" in row:
                continue
            self.check(way, name, prompt, row, latent)
            if self.occupied is not None:
                row["device_bytes"] -= self.occupied
            if way == "engine":
                tier = self.tier()
                row["tier"] = tier
                known = seen.setdefault((prompt, tier), latent)
                row["same_bits_as_before"] = None if known is latent else bool(torch.equal(known, latent))
                self.hold("engine: the same prompt on one tier gives the same bits", torch.equal(known, latent), prompt=name, tier=tier)
            self.log(way=way, prompt=name, **row)
            rows.append({"prompt": name, **row})
        return rows

    def tier(self) -> str:
        """How the first engine steps, and from where its base is read: what may change a picture's last bits."""
        serving = next((engine["serving"] or {} for engine in self.engines()), {})
        return f"{serving.get('tier', '')}; base {serving['base']}" if self.occupied is not None and serving else serving.get("tier", "")

    def settle(self, seconds: float) -> None:
        """Waits until the compiled tier is there, so that the second table is of one tier."""
        began, tiers = time.perf_counter(), [self.tier()]
        while time.perf_counter() - began < seconds:
            serving = next((engine["serving"] or {} for engine in self.engines()), {})
            tiers.append(serving.get("tier", ""))
            if "stage 2 of 2" in tiers[-1] or tiers[-1].startswith("fused") or serving.get("refused"):
                break
            time.sleep(1)
        self.log(what="the last tier", seconds=round(time.perf_counter() - began, 1), tiers=list(dict.fromkeys(tiers)))

    # -- losses

    def killed(self) -> None:
        """kill -9 in the middle of a picture: of the engine host, then of the sidecar. Seconds until the prompt ended, and whether its latent is right."""
        assert self.server is not None
        whole = Prompt(size=self.pixels, seed=8)
        _, right = self.prompt("engine", whole)
        for who in ("engine host", "sidecar"):
            with contextlib.closing(self.sidecar()) as client:
                status = client.call("status", {}).result
            host = next((host["pid"] for host in status["hosts"] if host["pid"]), None)
            pid = host if who == "engine host" else json.loads((self.folder / "data" / "sidecar.json").read_text("utf-8"))["pid"]
            if pid is None:
                self.log(what=f"{who} killed", skipped="the engine runs inside the sidecar")
                continue
            file = self.folder / "latents" / f"killed-{pid}.pt"
            # A user looks at pictures now and then; a spare host is started in such a rest.
            time.sleep(12 if self.real else 0)
            # A picture before it, so that ComfyUI runs this one anew.
            self.prompt("engine", replace(whole, seed=9))
            queued = self.server.queue(graph("engine", whole, self.setting, file))
            time.sleep(0.4 if self.real else 0.05)
            os.kill(pid, signal.SIGKILL)
            began = time.perf_counter()
            entry = self.server.wait(queued, PATIENCE_S)
            seconds = time.perf_counter() - began
            run = self.server.call("/refit/facts")["lastRun"]
            latent = torch.load(file)
            error = float((right - latent).double().norm() / right.double().norm())
            after = time.perf_counter()
            row, _ = self.prompt("engine", replace(whole, seed=10))
            self.log(what=f"{who} killed in mid-picture", seconds=round(seconds, 2), status=entry["status"]["status_str"], error=error,
                     served_by=run["served_by"], reason=run["reason"], next_prompt_s=round(time.perf_counter() - after, 2), next_by=row.get("served_by"))  # fmt: skip
            self.hold(f"{who} killed: the picture is right", error <= self.near, error=error)

    def run(self) -> None:
        made = time.perf_counter()
        subprocess.run(
            [comfy_python(), "-m", "bench.ui.files", str(self.folder / "base" / "models"), "--size", self.given.size], cwd=ROOT, check=True
        )
        self.log(
            what="files",
            seconds=round(time.perf_counter() - made, 1),
            machine=machine(),
            steps=self.setting.steps,
            size=self.given.size,
            precision=self.given.precision,
        )
        if self.given.card:
            run_cards(self, [float(size) for size in self.given.card.split(",")])
        else:
            self.one_server(self.given.ways.split(","))
        self.log(what="verdict", holds=all(self.held.values()), held=self.held)

    def one_server(self, ways: list[str]) -> None:
        try:
            self.log(what="server up", seconds=round(self.start(), 2))
            for way in [] if self.given.no_table else ways:
                if way == "engine" and self.given.settle_first:
                    row, _ = self.prompt(way, Prompt(size=self.pixels, seed=77))
                    self.log(way=way, prompt="first after start", **row)
                    self.settle(self.given.settle_first)
                self.table(way, plan(self.pixels, self.given.size))
                if way == "engine":
                    if self.given.settle:
                        self.settle(self.given.settle)
                        self.table(way, plan(self.pixels, self.given.size))
                    kept = ("id", "state", "host", "precision", "memoryBytes", "serving")
                    self.log(what="engines", engines=[{key: engine[key] for key in kept} for engine in self.engines()])
            if "engine" in ways and not self.given.no_kill:
                self.killed()
            if self.given.soak:
                soak(self, self.given.soak, self.near)
        finally:
            self.stop()
            self.end_sidecar()

    def end_sidecar(self) -> None:
        """The sidecar that the plugin started outlives ComfyUI; this one is ours."""
        note = self.folder / "data" / "sidecar.json"
        with contextlib.suppress(OSError, ValueError):
            pid = json.loads(note.read_text("utf-8"))["pid"]
            os.kill(pid, signal.SIGTERM)
            # Its hosts end with it, and their memory is the next run's.
            for _ in range(200):
                os.kill(pid, 0)
                time.sleep(0.1)


def machine() -> dict[str, Any]:
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    version = ""
    with contextlib.suppress(OSError):
        text = (Path(os.environ["COMFYUI_DIR"]) / "comfyui_version.py").read_text("utf-8")
        version = text.split('"')[1]
    return {"card": card, "cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version(), "comfyui": version}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ui", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder; its models are kept for the next run")
    parser.add_argument("--size", choices=tuple(SETTINGS), default="real")
    parser.add_argument("--precision", default="auto", help="what Load Engine is asked for; ComfyUI's own path loads the file as it is")
    parser.add_argument("--ways", default="own,engine", help=f"comma-separated, of {', '.join(WAYS)}")
    parser.add_argument(
        "--settle", type=float, default=0.0, help="seconds to wait for the engine's last tier; the engine's table runs again then"
    )
    parser.add_argument(
        "--settle-first", type=float, default=0.0, help="seconds to wait for it before the engine's first table, after one prompt"
    )
    parser.add_argument("--soak", type=int, default=0, help="that many random prompts at the end")
    parser.add_argument(
        "--card",
        default="",
        help="gigabytes of card that UI and host find free, comma-separated (8,12,16,24): one server each, on a short table",
    )
    parser.add_argument("--no-table", action="store_true", help="only what else is asked for: kills, --soak")
    parser.add_argument("--no-kill", action="store_true")
    parser.add_argument(
        "--host-python", default="", help="Python with the packages of the GPU host, where `host install` did not install them"
    )
    parser.add_argument("--sidecar", default="", help="bin/refit-sidecar.mjs of another checkout")
    parser.add_argument("--arguments", default="", help="more arguments for ComfyUI")
    parser.add_argument("--out", type=Path, help="JSON lines are added to this file")
    given = parser.parse_args()
    if reason := skip_reason():
        print(json.dumps({"what": "skipped", "reason": reason}))
        return 0
    if unknown := set(given.ways.split(",")) - set(WAYS):
        parser.error(f"--ways: {', '.join(sorted(unknown))} is not one of {', '.join(WAYS)}")
    if given.card and not torch.cuda.is_available():
        parser.error("--card holds memory of a CUDA card, and there is none")
    torch.set_grad_enabled(False)
    bench = Bench(given)
    bench.run()
    return 0 if all(bench.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
