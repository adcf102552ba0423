"""The client against two servers: a stub that misbehaves on request, and the real wire server on a fake backend."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
for folder in (ROOT / "plugin", HERE):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from refit_sidecar_plugin.client import Address, SidecarClient  # noqa: E402
from stub_sidecar import StubSidecar  # noqa: E402


class RealSidecar:
    """The built TypeScript server as a process. ``emit`` makes its backend tell an event."""

    def __init__(self, data_dir: Path, options: dict | None = None) -> None:
        self.data_dir, self.options = data_dir, options or {}
        self.start()

    def start(self) -> None:
        node = shutil.which("node") or "node"
        script = ROOT / "test/sidecar/wire/serve-fake.mjs"
        command = [node, str(script), str(self.data_dir), json.dumps(self.options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the wire server did not start")
        self.url = json.loads(line)["url"]

    def emit(self, event: dict) -> None:
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(20)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.fixture
def start_real(tmp_path):
    if not (ROOT / "sidecar/dist/src/wire/index.js").exists():
        pytest.skip("the sidecar is not built (npm run build)")
    started = []

    def start(**options):
        started.append(RealSidecar(tmp_path / "data", options))
        return started[-1]

    yield start
    for sidecar in started:
        sidecar.stop()


@pytest.fixture
def real(start_real):
    return start_real()


@pytest.fixture
def client(real):
    with SidecarClient("test", "1", real.data_dir) as made:
        yield made


@pytest.fixture
def stub():
    """``stub(script)`` serves connections with ``script(StubSession)`` and returns a client for it."""
    running = []

    def make(script, **options):
        sidecar = StubSidecar(script, **options)
        client = SidecarClient("test", "1", address=Address(sidecar.url, "secret-token"))
        running.append((sidecar, client))
        return client

    yield make
    for sidecar, client in running:
        client.close()
        sidecar.close()


@pytest.fixture
def no_thread_left():
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("refit-sidecar"):
            thread.join(20)
            assert not thread.is_alive(), thread.name


WANTED = {
    "checkpoint": "c1", "stack": [{"adapter": "a1", "strength": 0.8}], "profile": "auto", "precision": "auto", "host": "auto",
    "mode": "comfyui", "residuals": False, "priority": "user",
}  # fmt: skip


@pytest.fixture
def wanted():
    return dict(WANTED)
