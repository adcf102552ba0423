"""The host's end of refit-plan.mjs: reads a message from stdin, checks it, parses it, finds the slots of its writes, and answers the milliseconds of all that."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sidecar/hosts/python"))

from refit_host.wire.messages import PrepareParams, Sources  # noqa: E402
from refit_host.wire.protocol import CHECKS  # noqa: E402

# As the host does after its start.
gc.collect()
gc.freeze()
slots = {name: index for index, name in enumerate(json.loads(sys.argv[1]))}
sources = Sources()
print("ready", flush=True)
while head := sys.stdin.buffer.read(4):
    data = sys.stdin.buffer.read(int.from_bytes(head, "little"))
    started = time.perf_counter()
    params = json.loads(data)["params"]
    CHECKS["prepare"](params, "prepare")
    parsed = PrepareParams.parse(params, sources)
    written = {name: slots[name] for name in parsed.plan.writes}
    print((time.perf_counter() - started) * 1000, flush=True)
