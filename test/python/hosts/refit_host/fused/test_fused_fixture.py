"""What the conformance suite expects of a network with fused and exchanged rows is what diffusers computes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[5]
sys.path.insert(0, str(ROOT / "test/python/parity"))

import fused  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def test_the_kept_outputs_are_diffusers_own():
    kept = load_file(fused.FOLDER / "steps.safetensors")
    shapes = {name: tuple(shape) for name, shape in json.loads((fused.FOLDER / "parameters.json").read_text()).items()}
    computed = fused.compute(shapes)
    assert kept.keys() == computed.keys()
    for name, value in computed.items():
        assert (kept[name] - value).norm() <= 1e-5 * value.norm(), name
    assert (kept["out.1"] - kept["out.0"]).norm() > 0.1 * kept["out.0"].norm()


def test_the_touched_parameters_are_fused_or_exchanged():
    rows = json.loads((fused.FOLDER / "graph.json").read_text())["refitMap"]
    assert {row["parameter"] for row in rows if row["slice"]} & set(fused.TOUCHED)
    assert {row["parameter"] for row in rows if row["swapHalves"]} & set(fused.TOUCHED)
