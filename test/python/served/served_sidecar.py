"""The built sidecar as a process on folders of its own."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class Sidecar:
    """The built sidecar on its own folders. `options` go to `serve`."""

    def __init__(self, folder: Path, *options: str, folders: tuple[str, str] = ("checkpoints", "loras")) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir(exist_ok=True)
        (self.data / "sidecar.json").unlink(missing_ok=True)
        command = ["node", str(ROOT / "sidecar/bin/refit-sidecar.mjs"), "serve", "--data-dir", str(self.data), "--checkpoints", str(folder / folders[0]),
                   "--loras", str(folder / folders[1]), "--quiet-window", "50", *options]  # fmt: skip
        self.log = (self.data / "test.log").open("wb")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
        deadline = time.monotonic() + 120
        while not (self.data / "sidecar.json").exists():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return (self.data / "test.log").read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
