"""The client's half of bench/wire-echo.mjs: steps over segments, over frames, and raw echoes, in turns."""

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import websockets
from websockets.sync.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugin"))

from refit_sidecar_plugin.client import SidecarClient, Tensor  # noqa: E402

SIZES = (64 * 1024, 256 * 1024, 4 * 1024 * 1024)
WANTED = {
    "checkpoint": "c1", "stack": [], "profile": "auto", "precision": "auto", "host": "auto", "mode": "comfyui", "residuals": False, "priority": "user",
}  # fmt: skip


def stepper(data_dir: str, use_segments: bool):
    client = SidecarClient("wire-echo", "1", Path(data_dir))
    session = client.session()
    if not use_segments:
        session._segments = None
    elif not session.uses_segments:
        raise SystemExit("no segments between these two processes")
    lease = client.call("engine.prepare", WANTED).result["lease"]

    def step(data: bytes) -> bytes:
        reply = client.call("engine.step", {"lease": lease}, [Tensor("sample", "u8", (len(data),), data)], check=lambda: False)
        return reply.tensors["out_sample"].data

    return step


def main(data_dir: str, echo_url: str, rounds: int, batch: int) -> None:
    with connect(echo_url, compression=None, max_size=None) as raw:
        measure(raw, data_dir, rounds, batch)


def measure(raw: ClientConnection, data_dir: str, rounds: int, batch: int) -> None:
    def echo(data: bytes) -> bytes:
        raw.send(data)
        return raw.recv()

    ways = {"raw echo": echo, "segments": stepper(data_dir, True), "frames": stepper(data_dir, False)}
    rows = []
    for size in SIZES:
        data = os.urandom(size)
        times: dict[str, list[float]] = {way: [] for way in ways}
        # Large messages take their time; fewer of them say as much.
        for _ in range(max(1, (rounds if size < 1 << 20 else rounds // 5) // batch)):
            for way, call in ways.items():
                if bytes(call(data)) != data:
                    raise SystemExit(f"{way} changed the bytes")
                for _ in range(batch):
                    started = time.perf_counter()
                    call(data)
                    times[way].append((time.perf_counter() - started) * 1000)
        for way, measured in times.items():
            cuts = statistics.quantiles(measured, n=100)
            rows.append({"bytes": size, "way": way, "p50": round(cuts[49], 3), "p99": round(cuts[98], 3), "count": len(measured)})
    print(json.dumps({"sizes": SIZES, "rows": rows, "websockets": websockets.__version__, "python": platform.python_version()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
