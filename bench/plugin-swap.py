"""The measuring half of bench/plugin-swap.mjs."""

import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1] / "test" / "python" / "plugin"
sys.path[:0] = [str(TESTS), str(TESTS / "ui" / "comfyui"), str(TESTS / "ui" / "comfyui" / "real")]

from comfy_server import ComfyServer, make_models, skip_reason  # noqa: E402
from graphs import Choices, graph  # noqa: E402
from sidecar_process import Sidecar, server_environment  # noqa: E402

# What LoRA trainers touch by default (attention), and convolutions as well: the second writes 15 times as many bytes.
STACKS = {
    "attention": [[("attention.safetensors", 0.8)], [(os.path.join("sub dir", "ünï style.safetensors"), 0.8)]],
    "attention and convolutions": [[("style.safetensors", 0.8)], [("style-twin.safetensors", 0.8)]],
}
# The first prompt waits for the graph of its structure, which a busy computer exports in minutes.
PATIENCE_S = 600
LOADERS = {"engine": "RefitLoadEngine", "ComfyUI": "CheckpointLoaderSimple"}


def main(rounds: int) -> None:
    if reason := skip_reason():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="refit-plugin-swap-") as folder:
        base = Path(folder) / "comfyui"
        make_models(base / "models", "sd15_tiny")
        (Path(folder) / "data").mkdir()
        sidecar = Sidecar(Path(folder) / "data")
        server = ComfyServer(base, environment=server_environment(sidecar))
        try:
            print(json.dumps(measure(server.ready(), Path(folder) / "latent.pt", rounds)))
        finally:
            server.stop()
            sidecar.kill()


def measure(server: ComfyServer, out: Path, rounds: int) -> dict:
    rows = []
    seed = 0
    for name, stacks in STACKS.items():
        for way, loader in LOADERS.items():
            for stack in stacks:
                prompt_ms(server, out, Choices(loader=loader, adapters=stack, steps=1, seed=1000))
            times: dict[str, list[float]] = {"same": [], "changed": [], "refit": []}
            for turn in range(rounds):
                choices = Choices(loader=loader, adapters=stacks[turn % 2], steps=1)
                for kind in ("changed", "same", "same"):
                    seed += 1
                    times[kind].append(prompt_ms(server, out, replace(choices, seed=seed)))
                    if way == "engine" and kind == "changed":
                        times["refit"].append(refit_ms(server))
            rows.append({"layers": name, "way": way, **{kind: statistics.median(measured) for kind, measured in times.items() if measured}})
    return {"rows": rows, "python": platform.python_version(), "torch": torch.__version__}


def refit_ms(server: ComfyServer) -> float:
    last = server.call("/refit/facts")["lastRun"]
    if last["served_by"] != "engine":
        raise SystemExit(f"a run was not on the engine: {last['reason']}")
    return last["report"]["refit_ms"]


def prompt_ms(server: ComfyServer, out: Path, choices: Choices) -> float:
    """From start to success as ComfyUI itself stamps them, so that queueing and polling do not count."""
    stamps = {name: message["timestamp"] for name, message in server.prompt(graph(out, choices), PATIENCE_S)["status"]["messages"]}
    return float(stamps["execution_success"] - stamps["execution_start"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
