"""Both ends of bench/residual-step.mjs: `host` does nothing with a step's inputs, `client` makes steps through the plugin's client, one way and the other in turns."""

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugin"), str(ROOT / "sidecar" / "hosts" / "python")]

# SDXL at 1024 squared, batch 2, fp16: what a ControlNet adds to the skip connections and to the middle.
SHAPES = [(320, 128)] * 3 + [(320, 64)] + [(640, 64)] * 2 + [(640, 32)] + [(1280, 32)] * 3
WAYS = ("pipe", "place")


def host() -> None:
    from refit_host.host.host import translate
    from refit_host.host.step_memory import StepMemory
    from refit_host.host.tensors import to_wire
    from refit_host.wire.server import Method, Server

    memory = StepMemory(torch.device("cpu"))

    def hello(params, call):
        return {
            "protocolVersion": 1, "kind": "nothing", "versions": {}, "device": {"type": "cpu", "name": "none"}, "precisions": ["f16"],
            "memory": {"totalBytes": 0, "freeBytes": 0}, "segments": memory.use(params.get("segments")),
        }, []  # fmt: skip

    def step(params, call):
        began = time.perf_counter()
        inputs = memory.inputs(call.tensors, params)
        # One value of each: what is read is what was sent.
        ends = torch.stack([value.reshape(-1)[-1].float() for value in inputs.values()]).sum()
        return {"ms": (time.perf_counter() - began) * 1000}, [to_wire("out_sample", inputs["sample"] + ends.half())]

    output = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)
    methods = {"hello": Method(hello, "now"), "step": Method(step, "live"), "shutdown": Method(lambda params, call: ({}, []), "live")}
    sys.exit(Server(methods, output, translate).serve(sys.stdin.buffer))


def client(data_dir: str, rounds: int) -> None:
    from refit_sidecar_plugin.client import SidecarClient
    from refit_sidecar_plugin.engine import EngineRun, Wanted
    from refit_sidecar_plugin.ui.denoising.tensors import to_wire

    link = SidecarClient("residual-step", "1", Path(data_dir))
    runs = {way: EngineRun(link, Wanted(way, ()), check=lambda: None) for way in WAYS}
    for run in runs.values():
        run.prepare()
    make = torch.Generator().manual_seed(1)
    sample = torch.randn((2, 4, 128, 128), generator=make).half()
    residuals = {
        f"residual_{index}": torch.randn((2, channels, side, side), generator=make).half() for index, (channels, side) in enumerate(SHAPES)
    }
    kinds = {"without": {"sample": sample}, "with": {"sample": sample, **residuals}}
    times: dict[tuple[str, str], list[float]] = {(way, kind): [] for way in WAYS for kind in kinds}
    outputs = {}
    for _ in range(rounds + 2):
        for (way, kind), taken in times.items():
            began = time.perf_counter()
            tensors = {name: to_wire(name, value) for name, value in kinds[kind].items()}
            reply = runs[way].step(tensors, frozenset())
            taken.append((time.perf_counter() - began) * 1000)
            if outputs.setdefault(kind, bytes(reply.data)) != bytes(reply.data):
                raise SystemExit("the two ways gave different answers")
    for run in runs.values():
        run.close()
    link.close()
    medians = {f"{way} {kind}": round(statistics.median(taken[2:]), 2) for (way, kind), taken in times.items()}
    print(
        json.dumps(
            {
                "medians": medians,
                "bytes": sum(value.nbytes for value in residuals.values()),
                "python": platform.python_version(),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    host() if sys.argv[1] == "host" else client(sys.argv[2], int(sys.argv[3]))
