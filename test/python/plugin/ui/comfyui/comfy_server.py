"""A real ComfyUI server on CPU for tests: started on a scratch base directory, spoken to over HTTP, stopped by its own pid."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).resolve().parents[5]
HERE = Path(__file__).resolve().parent
TINY = HERE / "tiny_checkpoints.py"
TEST_NODES = HERE / "comfy_test_nodes"


def skip_reason() -> str | None:
    """Why the real-server tests cannot run here, or None."""
    given = os.environ.get("COMFYUI_DIR")
    if not given:
        return "COMFYUI_DIR is not set: point it at a ComfyUI checkout (and COMFYUI_PYTHON at a Python with its requirements) to run against the real server"
    if not (Path(given) / "main.py").is_file():
        return f"COMFYUI_DIR has no main.py: {given}"
    return None


def comfy_python() -> str:
    return os.environ.get("COMFYUI_PYTHON", sys.executable)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_models(folder: Path, *names: str) -> None:
    """Writes the tiny models of these names; those of a kept folder (see `kept`) stay as they are."""
    names = tuple(
        name
        for name in names
        if not any((folder / kind / f"{name}.safetensors").exists() for kind in ("checkpoints", "diffusion_models", "controlnet"))
    )
    if not names:
        return
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([comfy_python(), str(TINY), str(folder), *names], env=environment, check=True, capture_output=True, timeout=300)


def kept(name: str, factory: Callable[[str], Path]) -> Path:
    """A folder that outlives the session when REFIT_TEST_KEEP names one (graphs are exported once, not once a session), else a temporary one."""
    given = os.environ.get("REFIT_TEST_KEEP")
    if not given:
        return factory(name)
    folder = Path(given) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class ComfyServer:
    """One running server. `log` grows with its output; `prompt` queues a graph and waits for its end."""

    def __init__(
        self,
        base: Path,
        *,
        environment: dict[str, str] | None = None,
        arguments: list[str] | None = None,
        plugin: bool = True,
        nodes: dict[str, Path] | None = None,
        device: tuple[str, ...] = ("--cpu",),
    ) -> None:
        """`nodes`: further folders of custom nodes by name. `device`: ComfyUI's own arguments for it; none is the card."""
        self.base, self.port = base, free_port()
        folder = base / "custom_nodes"
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in {"refit-sidecar": REPO / "plugin", "comfy_test_nodes": TEST_NODES, **(nodes or {})}.items():
            link = folder / name
            if not link.is_symlink() and (plugin or name != "refit-sidecar"):
                link.symlink_to(source)
        self.log: list[str] = []
        command = [
            comfy_python(), str(Path(os.environ["COMFYUI_DIR"]) / "main.py"), *device, "--listen", "127.0.0.1", "--port", str(self.port),
            "--base-directory", str(base), "--database-url", f"sqlite:///{base / 'comfyui.db'}", "--disable-auto-launch", *(arguments or []),
        ]  # fmt: skip
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.process = subprocess.Popen(
            command, cwd=base, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._changed = threading.Condition()
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self.log.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for_line(self, text: str, timeout_s: float = 60.0) -> str:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self.log:
                    if text in line:
                        return line
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"no line with {text!r}; the server's last lines:\n" + "\n".join(self.log[-40:]))
                self._changed.wait(0.5)

    def ready(self, timeout_s: float = 300.0) -> ComfyServer:
        try:
            self.wait_for_line("To see the GUI go to", timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def call(self, path: str, body: object | None = None, headers: dict[str, str] | None = None, method: str | None = None) -> object:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers={"Content-Type": "application/json", **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} answered {error.code}: {error.read().decode(errors='replace')[:2000]}") from None
        return json.loads(text) if text else None

    @property
    def comfyui_version(self) -> tuple[int, ...]:
        """(0, 33, 0)."""
        text = self.call("/system_stats")["system"]["comfyui_version"]
        return tuple(int(part) for part in text.split("-")[0].split("."))

    def queue(self, graph: dict) -> str:
        return self.call("/prompt", {"prompt": graph})["prompt_id"]

    def wait(self, prompt_id: str, timeout_s: float = 120.0) -> dict:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            history = self.call(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            if self.process.poll() is not None:
                raise AssertionError("ComfyUI ended:\n" + "\n".join(self.log[-40:]))
            time.sleep(0.01)
        raise AssertionError(f"the prompt did not end within {timeout_s} s; last lines:\n" + "\n".join(self.log[-40:]))

    def prompt(self, graph: dict, timeout_s: float = 120.0) -> dict:
        """Runs a graph to its end; raises with ComfyUI's own error text when it fails."""
        entry = self.wait(self.queue(graph), timeout_s)
        if entry["status"]["status_str"] != "success":
            last = entry["status"]["messages"][-1][1]
            raise AssertionError(f"{last.get('node_type')}: {last.get('exception_message')}{''.join(last.get('traceback', [])[-3:])}")
        return entry

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
