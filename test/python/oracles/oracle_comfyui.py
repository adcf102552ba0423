"""Runs a script by a real ComfyUI's Python. COMFYUI_DIR (0.33 or newer) and COMFYUI_PYTHON name it; without them a test says so and ends."""

import os
import subprocess
from pathlib import Path

import pytest

needs_comfyui = pytest.mark.skipif("COMFYUI_DIR" not in os.environ, reason="COMFYUI_DIR names no ComfyUI of 0.33 or newer")


def run_by_comfyui(script: Path, *arguments: str, text: str = "") -> list[str]:
    """The lines that it prints. Its argv: the ComfyUI's folder, then `arguments`; its stdin: `text`."""
    command = [os.environ.get("COMFYUI_PYTHON", "python"), str(script), os.environ["COMFYUI_DIR"], *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()
