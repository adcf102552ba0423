"""The simulation against the real library: every name that the host can use on it must exist in the release that TENSORRT_RTX_PYTHON has.

TENSORRT_RTX_PYTHON: a Python with `tensorrt_rtx` (and for the parser's part torch and onnx). No GPU is needed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
PYTHON = os.environ.get("TENSORRT_RTX_PYTHON")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="TENSORRT_RTX_PYTHON is not set: a Python with the real tensorrt_rtx")
# Set on instances of the simulation, so that its classes do not show them.
ON_INSTANCES = {
    "IBuilderConfig": ["num_compute_capabilities"],
    "IRuntimeConfig": ["cuda_graph_strategy"],
    "Weights": ["dtype", "size"],
    "Refitter": ["weights_validation"],
}
# What the simulation has for itself.
OWN = {"ICudaEngine": {"run"}, "DataType": {"raw"}}
ASK = """
import json, sys, tensorrt_rtx
wanted = json.load(sys.stdin)
missing = [name for name in wanted if not hasattr(tensorrt_rtx, name)]
missing += [f"{name}.{member}" for name, members in wanted.items() if name not in missing for member in members if not hasattr(getattr(tensorrt_rtx, name), member)]
print(json.dumps({"version": tensorrt_rtx.__version__, "missing": missing}))
"""
PARSE = """
import importlib, json, sys
from pathlib import Path
from refit_host.host.bundle import read_bundle
from refit_tensorrt.binding import wrap
from refit_tensorrt.network import Nowhere, parse, read_source
binding = wrap(importlib.import_module("tensorrt_rtx"))
out = {}
for name, variant in json.load(sys.stdin):
    bundle = read_bundle(Path(sys.argv[1]) / name)
    source = read_source(bundle.file(variant), bundle.rows)
    network = binding.trt.Builder(binding.logger).create_network(0)
    nowhere = Nowhere(source.weights)
    parser = parse(binding, network, source, nowhere)
    out[f"{name} {variant}"] = [len(source.weights), sum(network.mark_weights_refittable(w.name) for w in source.weights)]
print(json.dumps(out))
"""


def ask(code: str, question: object, *args: str) -> dict:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "sidecar/hosts/python"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [PYTHON, "-c", code, *args], input=json.dumps(question), capture_output=True, text=True, timeout=300, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def simulated_names() -> dict[str, list[str]]:
    sys.path.insert(0, str(ROOT / "test/python/simulation"))
    library = importlib.import_module("tensorrt_rtx")
    out = {}
    for name in library.__all__:
        found = getattr(library, name)
        members = list(found.__members__) if hasattr(found, "__members__") else []
        members += [
            member
            for member, value in vars(found).items()
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
        ]
        out[name] = sorted({*members, *ON_INSTANCES.get(name, [])} - OWN.get(name, set()))
    return out


def test_the_real_library_has_every_name_of_the_simulation():
    wanted = simulated_names()
    assert sum(map(len, wanted.values())) > 80
    assert ask(ASK, wanted)["missing"] == []


def test_the_real_parser_takes_the_shipped_graphs_and_keeps_every_parameter_refittable():
    graphs = [("sd15", "fp16"), ("sd2", "fp16"), ("sdxl", "fp16"), ("sdxl", "residuals-fp16"), ("sdxl-refiner", "fp16"), ("demo", "fp32")]
    found = ask(PARSE, graphs, str(ROOT / "sidecar/graphs"))
    assert len(found) == len(graphs)
    assert all(marked == count > 600 for count, marked in found.values()), found
