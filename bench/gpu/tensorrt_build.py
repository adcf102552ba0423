"""`python -m bench.gpu.tensorrt_build [--graphs sd15,sdxl] [--targets 8.9,7.5]`: builds stripped refittable engines from the shipped graphs with the real library.

Prints one JSON line per engine: seconds, bytes, how many parameters the engine takes in a refit, and what the library says about running it on this
device. Needs `tensorrt_rtx` (or `tensorrt`), torch, onnx and an NVIDIA driver; run from the root.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sidecar" / "hosts" / "python"))

import torch  # noqa: E402
from refit_host.failure import HostFailure  # noqa: E402
from refit_host.host.bundle import Bundle, read_bundle  # noqa: E402
from refit_tensorrt.binding import LIBRARIES, Binding, wrap  # noqa: E402
from refit_tensorrt.build import Built, build  # noqa: E402
from refit_tensorrt.profiles import profiles_for  # noqa: E402

GIB = 1 << 30


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def _library() -> Binding:
    import importlib

    for name in LIBRARIES:
        try:
            return wrap(importlib.import_module(name))
        except ImportError:
            continue
    raise SystemExit(f"expected one of {', '.join(LIBRARIES)} in this Python")


def _runs_here(binding: Binding, bundle: Bundle, built: Built) -> dict[str, object]:
    """What the runtime says about the engine on this device; with a device that can load it, its weights against the refit map."""
    runtime = binding.trt.Runtime(binding.logger)
    facts: dict[str, object] = {}
    if hasattr(runtime, "get_engine_validity"):
        validity, diagnostics = runtime.get_engine_validity(built.plan)
        facts["validity"], facts["diagnostics"] = str(validity), str(diagnostics)
    binding.complaints.clear()
    engine = runtime.deserialize_cuda_engine(built.plan)
    if engine is None:
        return {**facts, "loads": False, "said": binding.said()}
    refitter = binding.trt.Refitter(engine, binding.logger)
    names, missing = set(refitter.get_all_weights()), set(refitter.get_missing_weights())
    expected = {row.weight for row in bundle.rows}
    return {**facts, "loads": True, "refittable": engine.refittable, "weights": len(names), "missing_before_refit": len(missing),
            "not_in_engine": sorted(expected - names)[:5], "not_in_refit_map": sorted(names - expected)[:5]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graphs", default="sd15,sdxl")
    parser.add_argument("--variant", default="fp16")
    parser.add_argument("--targets", default="8.9")
    parser.add_argument("--profiles", type=int, default=1, help="how many profiles the engine gets")
    parser.add_argument("--memory-gib", type=int, default=24, help="device memory that the profiles are made for")
    given = parser.parse_args()
    binding = _library()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    _say(bench="tensorrt_build", library=f"{binding.name} {binding.version}", device=device, torch=torch.__version__)
    for name in given.graphs.split(","):
        bundle = read_bundle(ROOT / "sidecar" / "graphs" / name)
        profiles = profiles_for(bundle.family, given.memory_gib * GIB)[: given.profiles]
        for target in given.targets.split(","):
            major, minor = map(int, target.split("."))
            began = time.perf_counter()
            try:
                built = build(binding, bundle, given.variant, profiles, (major, minor))
            except HostFailure as failure:
                _say(graph=name, target=target, ok=False, code=failure.code, message=failure.message, seconds=round(time.perf_counter() - began, 1))
                continue
            weightless = sum(torch.Size(row.shape).numel() for row in bundle.rows) * 2
            _say(graph=name, variant=given.variant, target=target, ok=True, profiles=len(profiles), seconds=round(built.seconds, 1), bytes=len(built.plan),
                 weights_left_out_bytes=weightless, layers=built.layers, refittable_parameters=built.weights, **_runs_here(binding, bundle, built))  # fmt: skip


if __name__ == "__main__":
    main()
