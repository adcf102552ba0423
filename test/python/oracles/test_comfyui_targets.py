"""What an adapter changes, by our reading and by ComfyUI's own loader: the digests that the plugin and the sidecar compare before an engine serves.

COMFYUI_DIR (0.33 or newer) and COMFYUI_PYTHON name a real ComfyUI; without them the test says so and ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from oracle_comfyui import needs_comfyui, run_by_comfyui
from oracle_node import run_script

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS.parent / "plugin"))
from refit_sidecar_plugin.stack import Patch, Target, targets_digest  # noqa: E402

pytestmark = needs_comfyui


def jobs() -> list[dict]:
    """Every plain adapter of the golden vectors."""
    out = []
    for folder in ("golden", "golden2"):
        for case in json.loads((TESTS / folder / "cases.json").read_text())["cases"]:
            for adapter in case["adapters"]:
                out.append(
                    {
                        "family": case["family"],
                        "base": str(TESTS / folder / case["base"]),
                        "adapter": str(TESTS / folder / adapter["file"]),
                        "case": case["name"],
                    }
                )
    return out


def test_targets_of_every_golden_adapter_are_comfyuis_own():
    rows = jobs()
    ours = [json.loads(line) for line in run_script("targets.mjs", "".join(json.dumps(job) + "\n" for job in rows)).splitlines()]
    given = "".join(json.dumps({"adapter": job["adapter"], "map": one["map"]}) + "\n" for job, one in zip(rows, ours, strict=True))
    said = run_by_comfyui(Path(__file__).with_name("comfyui_targets.py"), text=given)
    differing = []
    for job, one, line in zip(rows, ours, [line for line in said if line.startswith("[")], strict=True):
        there = set(one["parameters"])
        patches = [
            Patch(Target(parameter, tuple(part) if part else None, swap), "diff", ())
            for parameter, part, swap in json.loads(line)
            if parameter in there
        ]
        if targets_digest(patches) != one["targets"]:
            differing.append((job["case"], sorted(f"{p.target.parameter} {p.target.rows}" for p in patches), sorted(one["listed"])))
    assert differing == []
