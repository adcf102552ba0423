"""One build for `tensorrt_build`, in this process. Prints JSON objects as facts become known; the last one has `ok`."""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sidecar" / "hosts" / "python"))

import torch  # noqa: E402
from refit_host.failure import HostFailure  # noqa: E402
from refit_host.host.bundle import Bundle, Row, read_bundle  # noqa: E402
from refit_host.weights.layout import Layout  # noqa: E402
from refit_tensorrt import build as building  # noqa: E402
from refit_tensorrt.binding import LIBRARIES, Binding, Capability, wrap  # noqa: E402
from refit_tensorrt.network import Nowhere, read_source  # noqa: E402
from refit_tensorrt.profiles import Profile, profiles_for  # noqa: E402
from refit_tensorrt.runtime import EngineUnloadable, LoadedEngine  # noqa: E402
from refit_tensorrt.sink import EngineSink  # noqa: E402

GIB = 1 << 30


PROBE = "probe"


def _probe() -> Bundle:
    """Two layers in place of a graph: shows in seconds what a library builds here."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper

    shapes = {"conv.weight": (32, 4, 3, 3), "conv.bias": (32,), "out.weight": (4, 32, 1, 1)}
    sides = ["batch", 4, "height", "width"]
    values = [
        helper.make_tensor_value_info("sample", T.FLOAT16, sides),
        *(helper.make_tensor_value_info(name, T.FLOAT16, shape) for name, shape in shapes.items()),
    ]
    nodes = [helper.make_node("Conv", ["sample", "conv.weight", "conv.bias"], ["h"], pads=[1] * 4), helper.make_node("Sigmoid", ["h"], ["s"]),
             helper.make_node("Mul", ["h", "s"], ["m"]), helper.make_node("Conv", ["m", "out.weight"], ["out_sample"])]  # fmt: skip
    graph = helper.make_graph(nodes, PROBE, values, [helper.make_tensor_value_info("out_sample", T.FLOAT16, sides)])
    folder = Path(tempfile.mkdtemp(prefix="refit-probe-"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), folder / "probe.onnx")
    rows = tuple(Row(name, name, shape, None, False, True) for name, shape in shapes.items())
    port = {"name": "sample", "dtype": "float", "shape": sides}
    return Bundle(folder, PROBE, "sd15", "0" * 64, {"fp16": "probe.onnx"}, (port,), ({**port, "name": "out_sample"},), (), rows)


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def _library() -> Binding:
    for name in LIBRARIES:
        try:
            return wrap(importlib.import_module(name))
        except ImportError:
            continue
    raise SystemExit(f"expected one of {', '.join(LIBRARIES)} in this Python")


def _device() -> dict[str, object]:
    if not torch.cuda.is_available():
        return {"device": "none"}
    major, minor = torch.cuda.get_device_capability()
    return {"device": torch.cuda.get_device_name(), "capability": f"{major}.{minor}"}


class _Aim:
    """Stands in for the binding's choice of a target: by name, the device at hand, or none at all."""

    def __init__(self, binding: Binding, target: str) -> None:
        self._binding, self._target = binding, target
        here = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
        self.capability: Capability = tuple(map(int, target.split("."))) if target[0].isdigit() else here  # type: ignore[assignment]

    def __getattr__(self, name: str) -> object:
        return getattr(self._binding, name)

    def target(self, capability: Capability) -> object | None:
        if self._target == "here":
            return self._binding.this_device
        return None if self._target == "any" else self._binding.target(capability)


def timed(step: Callable[[dict[str, torch.Tensor]], torch.Tensor], sample: dict[str, torch.Tensor]) -> float:
    """Median ms of a step that ends with its output on the host."""
    times = []
    for _ in range(7):
        began = time.perf_counter()
        step(sample).cpu()
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[3]


def _names_in(plan: bytes, bundle: Bundle) -> int:
    """How many of the refit map's names the engine file mentions: an engine can be asked for the rest only where it loads."""
    return sum(row.weight.encode() in plan for row in bundle.rows)


def _runs_here(binding: Binding, bundle: Bundle, built: building.Built, profiles: Sequence[Profile]) -> dict[str, object]:
    """What the runtime says about the engine on this device; with a device that loads it: its weights against the refit map, a refit and a step."""
    runtime = binding.trt.Runtime(binding.logger)
    if hasattr(runtime, "get_engine_validity"):
        validity, diagnostics = runtime.get_engine_validity(built.plan)
        _say(validity=str(validity), diagnostics=str(diagnostics))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        loaded = LoadedEngine(binding, built.plan, profiles, bundle.inputs, device, None)
    except EngineUnloadable as error:
        return {"loads": False, "said": str(error)}
    _say(loads=True, refittable=loaded.engine.refittable)
    if not loaded.engine.refittable:
        return {}
    refitter = binding.trt.Refitter(loaded.engine, binding.logger)
    names, missing = set(refitter.get_all_weights()), set(refitter.get_missing_weights())
    expected = {row.weight for row in bundle.rows}
    _say(
        weights=len(names),
        missing_before_refit=len(missing),
        not_in_engine=sorted(expected - names)[:5],
        not_in_refit_map=sorted(names - expected)[:5],
    )
    del refitter
    return _refit_and_step(loaded, bundle, profiles, device)


def _refit_and_step(loaded: LoadedEngine, bundle: Bundle, profiles: Sequence[Profile], device: torch.device) -> dict[str, object]:
    """Random values into every weight by device address, twice, and steps at the profile's best size."""
    layout = Layout.build({row.parameter: row.shape for row in bundle.rows}, loaded.dtypes["sample"])
    memory = torch.empty(layout.nbytes, dtype=torch.uint8, device=device)
    for slot in layout.slots:
        slot.physical(memory).normal_(0, 0.02)
    sink = EngineSink(loaded, bundle.rows, layout)
    refits = []
    for _ in range(3):
        began = time.perf_counter()
        sink.write(layout.slots, memory, lambda names: ([layout.by_name[name] for name in names], memory))
        refits.append((time.perf_counter() - began) * 1000)
    sample = {
        port["name"]: torch.full(profiles[0].ranges(port)[1], 0.5, dtype=loaded.dtypes[port["name"]], device=device)
        for port in bundle.inputs
    }
    began = time.perf_counter()
    first = loaded.step(sample).float().cpu()
    first_ms = (time.perf_counter() - began) * 1000
    return {"first_refit_ms": round(refits[0], 1), "refit_ms": round(min(refits[1:]), 1), "first_step_ms": round(first_ms, 1),
            "step_ms": round(timed(loaded.step, sample), 2), "finite": bool(first.isfinite().all())}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("graph")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--profiles", type=int, required=True)
    parser.add_argument("--memory-gib", type=int, required=True)
    given = parser.parse_args()
    library = _library()
    bundle = _probe() if given.graph == PROBE else read_bundle(ROOT / "sidecar" / "graphs" / given.graph)
    profiles = profiles_for(bundle.family, given.memory_gib * GIB)[: given.profiles]
    weightless = sum(torch.Size(row.shape).numel() for row in bundle.rows) * (4 if given.variant.endswith("fp32") else 2)
    _say(library=f"{library.name} {library.version}", **_device(), variant=given.variant, profiles=[profile.text for profile in profiles],
         refit_map=len(bundle.rows), weights_left_out_bytes=weightless)  # fmt: skip
    values = None
    if given.mode != "stripped":
        weights = read_source(bundle.file(given.variant), bundle.rows).weights
        nowhere = Nowhere(weights)
        values = {weight.name: nowhere[weight.name] for weight in weights}
    aim = _Aim(library, given.target)
    began = time.perf_counter()
    try:
        built = building.build(aim, bundle, given.variant, profiles, aim.capability, scratch_bytes=given.memory_gib * GIB - weightless, at_hand=False,
                               mode=given.mode, values=values)  # type: ignore[arg-type]  # fmt: skip
    except HostFailure as failure:
        marked = (
            {}
            if given.mode == "fixed" or failure.code not in ("HOST_BUILD_FAILED", "HOST_OUT_OF_MEMORY")
            else {"marked_refittable": len(bundle.rows)}
        )
        _say(
            ok=False,
            code=failure.code,
            message=failure.message,
            evidence=failure.evidence,
            seconds=round(time.perf_counter() - began, 1),
            **marked,
            **_peak(),
        )
        return
    _say(ok=True, seconds=round(built.seconds, 1), parse_seconds=round(built.parse_seconds, 1), bytes=len(built.plan), layers=built.layers,
         marked_refittable=built.weights if given.mode != "fixed" else 0, names_in_plan=_names_in(built.plan, bundle), **_peak())  # fmt: skip
    try:
        _say(**_runs_here(library, bundle, built, profiles), **_peak())
    except (HostFailure, EngineUnloadable, RuntimeError) as error:
        _say(use_failed=str(error)[:300], **_peak())


def _peak() -> dict[str, int]:
    return {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}


if __name__ == "__main__":
    main()
