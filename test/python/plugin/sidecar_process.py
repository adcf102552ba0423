"""The real sidecar as a process of its own, for the tests on real UIs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]


class Sidecar:
    """The built sidecar on its own data folder, in fp32; with the embedded engine, where no other is named."""

    def __init__(self, data: Path, host: str = "onnxruntime") -> None:
        self.data, self.host = data, host
        self.start()

    def start(self) -> None:
        (self.data / "sidecar.json").unlink(missing_ok=True)
        command = [
            "node",
            str(REPO / "sidecar/bin/refit-sidecar.mjs"),
            "serve",
            "--data-dir",
            str(self.data),
            "--host",
            self.host,
            "--precision",
            "fp32",
        ]
        command += ["--python", os.environ.get("REFIT_TEST_PYTHON", sys.executable)]
        self.log = open(self.data / "test.log", "ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while not (self.data / "sidecar.json").exists():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.data / "test.log").read_text()[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def server_environment(sidecar: Sidecar) -> dict[str, str]:
    # One thread: the test machine's cores are shared, and torch's threads wait for each other by spinning. And no compiler, which takes minutes there.
    return {"REFIT_DATA_DIR": str(sidecar.data), "REFIT_SIDECAR": "off", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
