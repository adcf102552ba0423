"""Runs the compiled sidecar from the oracles. `npm test` builds it first."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILT = HERE.parents[2] / "sidecar" / "dist" / "src" / "terms" / "index.js"


def run_script(script: str, text: str) -> str:
    if shutil.which("node") is None or not BUILT.exists():
        pytest.skip("needs node and the built sidecar (npm run build)")
    result = subprocess.run(["node", str(HERE / script)], input=text, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def merge(jobs: list[dict]) -> list[dict]:
    """Runs every job in one process; each answer is {ok, reports, skipped} or {ok: false, code, message}."""
    answers = [json.loads(line) for line in run_script("merge.mjs", "".join(json.dumps(job) + "\n" for job in jobs)).splitlines()]
    assert len(answers) == len(jobs)
    return answers


def names(family: str, shapes: dict[str, list[int]]) -> dict:
    return json.loads(run_script("names.mjs", json.dumps({"family": family, "shapes": shapes})))
