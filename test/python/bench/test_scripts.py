"""The Python halves of benchmarks find what they import of the tests: nothing else runs them between two measurements."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("script", ["plugin-step", "plugin-swap"])
def test_a_script_can_be_loaded(script):
    load = f"import runpy; runpy.run_path({str(ROOT / 'bench' / f'{script}.py')!r}, run_name='loaded')"
    done = subprocess.run([sys.executable, "-c", load], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
