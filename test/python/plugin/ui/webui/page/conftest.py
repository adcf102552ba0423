"""The small web UI in each Python that the page is tried in: the tests' own without Gradio (as with --nowebui), and one for Gradio 3 and 4 each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import WebUi  # noqa: E402


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for path, size in {
        "Lora/ink.safetensors": 2 << 20,
        "Lora/sub/neon.safetensors": 3 << 20,
        "Stable-diffusion/base.safetensors": 64,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(bytes(size))
    return root


@pytest.fixture(scope="module")
def api(models):
    """Makes API-only UIs with the given arguments, and ends them."""
    made = []

    def make(**given):
        made.append(WebUi(models, gradio=False, options={"sd_model_checkpoint": "base.safetensors [0123]"}, **given).connected())
        return made[-1]

    yield make
    for ui in made:
        ui.stop()


VARIABLES = {"3.41": "GRADIO3_PYTHON", "4.40": "GRADIO4_PYTHON"}


@pytest.fixture(scope="module", params=VARIABLES)
def gradio_python(request):
    variable = VARIABLES[request.param]
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} is not set: point it at a Python with gradio {request.param} and websockets")
    found = subprocess.run([python, "-c", "import gradio; print(gradio.__version__)"], capture_output=True, text=True).stdout.strip()
    assert found.startswith(request.param), f"{variable} has gradio {found or 'none'}; expected {request.param}"
    return python
