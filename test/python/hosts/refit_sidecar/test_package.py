"""The package as pip installs it from the repository, and what it imports."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
CALL = textwrap.dedent("""
    import sys, torch
    from pathlib import Path
    import refit_sidecar
    from refit_sidecar import RefitModule
    module = RefitModule(torch.nn.Linear(3, 3).eval())
    with torch.no_grad():
        x = torch.ones(1, 3)
        one = module(x)
        module.weight.mul_(2)
        assert module.served_by == "engine" and not torch.equal(module(x), one)
    from refit_graphs.descriptions import descriptions
    assert len(descriptions()) > 20
    from refit_sidecar.lease import _client_package
    _client_package().SidecarClient
    assert (Path(refit_sidecar.__file__).parent / "py.typed").is_file()
    uis = [name for name in sys.modules if name.partition(".")[0] in ("comfy", "modules", "gradio", "server") or ".ui" in name]
    assert not uis, uis
    print(Path(refit_sidecar.__file__).parent)
""")


def _run(path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CALL], env={**os.environ, "PYTHONPATH": str(path), **environment}, cwd=path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_it_imports_nothing_of_a_ui():
    _run(ROOT / "sidecar/hosts/python")


@pytest.mark.e2e
def test_pip_installs_it_from_the_repository(tmp_path):
    """Needs a package index for setuptools."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "package.json"):
        shutil.copy(ROOT / name, source / name)
    for name in ("sidecar/hosts/python", "plugin", "protocol/families"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(source)], check=True)
    assert _run(site) == str(site / "refit_sidecar")
