"""A real Forge on CPU for tests: started on a scratch data folder, spoken to over its API, stopped by its own pid."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

REPO = Path(__file__).resolve().parents[4]
EXTENSIONS = {"a-refit-sidecar": REPO / "plugin", "b-refit-test": REPO / "test" / "plugin" / "forge_test_extension"}
CHECKPOINTS = REPO / "test" / "plugin" / "forge_checkpoints.py"


def skip_reason() -> str | None:
    """Why the tests on the real Forge cannot run here, or None."""
    given = os.environ.get("FORGE_DIR")
    if not given:
        return "FORGE_DIR is not set: point it at a Forge checkout (and FORGE_PYTHON at a Python with its requirements) to run against the real Forge"
    if not (Path(given) / "backend" / "patcher" / "unet.py").is_file():
        return f"FORGE_DIR is no Forge checkout: {given}"
    if not os.environ.get("FORGE_PYTHON"):
        return "FORGE_PYTHON is not set: point it at a Python with Forge's requirements"
    return None


def make_models(folder: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run([os.environ["FORGE_PYTHON"], str(CHECKPOINTS), str(folder)], env=environment, check=True, capture_output=True, timeout=600)


class ForgeServer:
    """One running Forge. `log` grows with its output."""

    def __init__(self, base: Path, environment: dict[str, str]) -> None:
        extensions = base / "extensions"
        extensions.mkdir(parents=True, exist_ok=True)
        for name, source in EXTENSIONS.items():
            if not (extensions / name).is_symlink():
                (extensions / name).symlink_to(source)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            os.environ["FORGE_PYTHON"], "launch.py", "--skip-prepare-environment", "--always-cpu", "--skip-torch-cuda-test", "--nowebui",
            "--server-name", "127.0.0.1", "--port", str(self.port), "--no-hashing", "--skip-load-model-at-start", "--data-dir", str(base),
        ]  # fmt: skip
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **environment}
        self.log: list[str] = []
        self.process = subprocess.Popen(command, cwd=os.environ["FORGE_DIR"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.log.append(line.rstrip())

    def ready(self, timeout_s: float = 300.0) -> ForgeServer:
        deadline = time.monotonic() + timeout_s
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, "Forge did not start:\n" + "\n".join(self.log[-60:])
            try:
                self.call("/sdapi/v1/sd-models")
                return self
            except (OSError, AssertionError):
                time.sleep(0.3)

    def call(self, path: str, body: object | None = None, timeout_s: float = 600.0) -> object:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} answered {error.code}: {error.read().decode(errors='replace')[:2000]}\n" + "\n".join(self.log[-40:])) from None
        return json.loads(text) if text else None

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
