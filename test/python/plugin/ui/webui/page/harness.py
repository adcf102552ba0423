"""Starts the small web UI in a Python of its own, and speaks HTTP to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

APP = Path(__file__).with_name("app.py")
# No sidecar is started beside the fake one; Gradio asks its makers' servers for news unless it is told not to.
QUIET = {
    "REFIT_SIDECAR": "off",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "no_proxy": "127.0.0.1,localhost",
    "NO_PROXY": "127.0.0.1,localhost",
}
PATIENCE_S = 90.0


class WebUi:
    def __init__(self, models: Path, python: str = sys.executable, **given: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = models / f"ui-{self.port}.log"
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [python, str(APP), json.dumps({"models": str(models), "port": self.port, **given})],
                stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env={**os.environ, **QUIET},
            )  # fmt: skip
        self.until(lambda: self.get("/refit-sidecar/web/dashboard.html")[0] == 200)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tell(self, **wish: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        return self._ask(urllib.request.Request(self.url + path, headers=headers or {}))

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        return self._ask(urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})}))

    @staticmethod
    def _ask(request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                status, data = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, data = error.code, error.read()
        except OSError:
            return 0, None
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data.decode(errors="replace")

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the small web UI did not get there:\n" + self.log.read_text(errors="replace")[-4000:])
            time.sleep(0.1)

    def connected(self) -> WebUi:
        """Waits for the fake sidecar, where the routes are open to this caller."""
        self.until(lambda: (answer := self.get("/refit-sidecar/facts"))[0] == 401 or answer[1]["connection"]["state"] == "connected")
        return self

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(15)
        assert self._process.stdin
        self._process.stdin.close()
