"""The client's half of bench/plugin-step.mjs: steps as the sampler makes them, and raw echoes, in turns."""

import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugin"), str(ROOT / "test" / "python" / "plugin" / "ui" / "comfyui")]

import comfy_fakes  # noqa: E402

comfy_fakes.install()

from refit_sidecar_plugin.client import SidecarClient  # noqa: E402
from refit_sidecar_plugin.engine import EngineRun, Wanted  # noqa: E402
from refit_sidecar_plugin.ui.denoising import UNET, read_call  # noqa: E402
from refit_sidecar_plugin.ui.denoising.answer import Answerer  # noqa: E402

# SDXL at 1024 squared, conditional and unconditional part in one batch.
SAMPLE, CONTEXT, POOLED = (2, 4, 128, 128), (2, 77, 2048), (2, 2816)


def main(data_dir: str, echo_url: str, rounds: int, batch: int) -> None:
    client = SidecarClient("plugin-step", "1", Path(data_dir))
    run = EngineRun(client, Wanted("c1", ()), check=lambda: None)
    run.prepare()
    # The backend that gives the sample back names fewer inputs than SDXL has.
    run.inputs = {name: ["batch"] for name in ("sample", "timestep", "encoder_hidden_states", "y")}
    answer = Answerer(run)
    x, context, y = (torch.randn(shape).half() for shape in (SAMPLE, CONTEXT, POOLED))
    data = x.numpy().tobytes()
    times: dict[str, list[float]] = {"plugin step": [], "raw echo": []}

    # The sampler makes new tensors for every call; equal content must still travel once.
    timestep, contexts, ys = torch.zeros(2), [context.clone() for _ in range(2)], [y.clone() for _ in range(2)]

    def step() -> None:
        contexts.reverse()
        ys.reverse()
        answer(read_call(UNET, (x, timestep, contexts[0], ys[0], None, {}), {}))

    with connect(echo_url, compression=None, max_size=None) as raw:
        if not torch.equal(answer(read_call(UNET, (x, timestep, context, y, None, {}), {})), x):
            raise SystemExit("a step changed the sample")

        def echo() -> None:
            raw.send(data)
            if raw.recv() != data:
                raise SystemExit("the echo changed the bytes")

        for _ in range(max(1, rounds // batch)):
            for way, work in (("plugin step", step), ("raw echo", echo)):
                work()
                for _ in range(batch):
                    started = time.perf_counter()
                    work()
                    times[way].append((time.perf_counter() - started) * 1000)
    run.close()
    client.close()
    cuts = {way: statistics.quantiles(measured, n=100) for way, measured in times.items()}
    ways = {way: {"p50": round(cut[49], 3), "p99": round(cut[98], 3)} for way, cut in cuts.items()}
    print(json.dumps({"ways": ways, "bytes": len(data), "python": platform.python_version(), "torch": torch.__version__}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
