"""What `doctor` is told of a Python: the tier with its reason, whatever the computer lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from refit_host.about import tier_of

HOSTS = Path(__file__).resolve().parents[4] / "sidecar" / "hosts" / "python"
WITH = {"torch": "2.13", "triton": "3.6"}


@pytest.mark.parametrize(
    ("device", "versions", "triton", "compiler", "tier", "why"),
    [
        ("cpu", WITH, True, True, "eager", "no GPU"),
        ("cuda", {"torch": "2.13"}, False, True, "CUDA graphs", "not installed"),
        ("cuda", WITH, False, True, "CUDA graphs", "cannot be imported"),
        ("cuda", WITH, True, False, "CUDA graphs", "C compiler"),
        ("cuda", WITH, True, True, "compiled blocks in CUDA graphs", "background build"),
        ("cuda", {"torch": "2.13", "triton-windows": "3.6"}, True, True, "compiled blocks in CUDA graphs", "background build"),
    ],
)
def test_tier_and_reason(device, versions, triton, compiler, tier, why):
    found, reason = tier_of(device, versions, triton, compiler)
    assert found == tier
    assert why in reason


def launch(*arguments, path=""):
    environment = {**os.environ, "REFIT_PYTHON_PATH": path}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, "-I", str(HOSTS / "launch.py"), *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def test_launch_finds_its_modules_where_pythonpath_is_ignored():
    done = launch("refit_host.about")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["versions"]["torch"]
    assert facts["tier"]


def test_launch_puts_side_folders_first(tmp_path):
    (tmp_path / "diffusers.py").write_text("print('side folder')\n")
    (tmp_path / "asks.py").write_text("import diffusers\n")
    assert launch("asks", path=str(tmp_path)).stdout == "side folder\n"
    assert launch().returncode != 0
