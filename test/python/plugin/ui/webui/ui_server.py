"""A real Forge, Forge Neo, A1111 or reForge on CPU for tests: started on a scratch data folder, spoken to over its API, stopped by its own pid."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

REPO = Path(__file__).resolve().parents[5]
HERE = Path(__file__).resolve().parent
PROBE = HERE / "webui_test_extension"
EXTENSIONS = {"0-before": PROBE, "a-refit-sidecar": REPO / "plugin", "z-after": PROBE}
CHECKPOINTS = HERE / "webui_checkpoints.py"
TRANSFORMERS = HERE / "transformer_checkpoints.py"
CLIP = Path("backend") / "huggingface" / "runwayml" / "stable-diffusion-v1-5"

COMMON = (
    "--skip-prepare-environment",
    "--skip-torch-cuda-test",
    "--server-name",
    "127.0.0.1",
    "--no-hashing",
)
LATER = "--skip-load-model-at-start"


@dataclass(frozen=True)
class Ui:
    """`prompt_sr`: place of "Prompt S/R" in the XYZ script's list of axes; `grid`: its arguments after the axes, for cells of one seed.
    `hires`: what the API needs besides; None where it can make no second pass. `several`: the arguments for folders take more than one, and end in "s".
    """

    name: str
    folder: str
    python: str
    mark: str
    arguments: tuple[str, ...]
    prompt_sr: int
    grid: tuple[object, ...]
    hires: dict[str, object] | None
    several: bool = False

    def skip_reason(self) -> str | None:
        """Why the tests on this UI cannot run here, or None."""
        for variable, what in ((self.folder, "a checkout"), (self.python, "a Python with its requirements")):
            if not os.environ.get(variable):
                return f"{variable} is not set: point it at {what} of {self.name} to run against the real {self.name}"
        if not (Path(os.environ[self.folder]) / self.mark).is_file():
            return f"{self.folder} is no checkout of {self.name} that can start: {self.mark} is missing"
        if self.folder != "FORGE_DIR" and forge().skip_reason() is not None:
            return f"the tiny checkpoints are made of Forge's classes, and {forge().skip_reason()}"
        return None


GRID = (False, False, False, True, False, False, False, 0, False)


def forge() -> Ui:
    return Ui(
        "Forge",
        "FORGE_DIR",
        "FORGE_PYTHON",
        "backend/patcher/unet.py",
        ("--always-cpu", LATER),
        8,
        GRID,
        {"hr_additional_modules": ["Use same choices"]},
    )


def a1111() -> Ui:
    arguments = (LATER, "--use-cpu", "all", "--no-half", "--no-download-sd-model", "--do-not-download-clip")
    return Ui("A1111", "WEBUI_DIR", "WEBUI_PYTHON", "repositories/k-diffusion/k_diffusion/sampling.py", arguments, 7, GRID, {})


def a1111_medvram() -> Ui:
    """Its UNet moves to the device by a hook; on a CPU the way is the same."""
    return replace(a1111(), name="A1111 with --medvram", arguments=(*a1111().arguments, "--medvram"))


def reforge() -> Ui:
    grid = (False, False, True, 0, False, False, True, False, False, False, 0, False)
    return Ui("reForge", "REFORGE_DIR", "REFORGE_PYTHON", "ldm_patched/modules/model_patcher.py", ("--always-cpu", LATER), 7, grid, {})


def forge_neo() -> Ui:
    grid = (*GRID[:-1], 0, False)
    # It has no way of making a latent itself larger, and started for the API alone, it loads no upscaler; with "None" it never ends.
    return Ui("Forge Neo", "FORGE_NEO_DIR", "FORGE_NEO_PYTHON", "backend/nn/unet.py", ("--cpu",), 10, grid, None, several=True)


UIS = {ui.name: ui for ui in (forge(), forge_neo(), a1111(), a1111_medvram(), reforge())}


def make_models(folder: Path, script: Path = CHECKPOINTS) -> None:
    """Checkpoints and LoRAs: SD 1.5 for every UI, or what another script writes."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run([os.environ["FORGE_PYTHON"], str(script), str(folder)], env=environment, check=True, capture_output=True, timeout=600)


class UiServer:
    """One running UI. `log` grows with its output. `linked`: extensions beside those that lie in the data folder already. `page`: with its page, beside its API."""

    def __init__(
        self,
        ui: Ui,
        base: Path,
        models: Path,
        environment: dict[str, str],
        linked: Mapping[str, Path] = EXTENSIONS,
        page: bool = False,
    ) -> None:
        self.ui, self.base = ui, str(base)
        extensions = base / "extensions"
        extensions.mkdir(parents=True, exist_ok=True)
        for name, source in linked.items():
            (extensions / name).symlink_to(source)
        # Places that only the UI's own arguments tell; the sidecar watches no other ones.
        places = {"--lora-dir": ("my LoRAs", "Lora"), "--ckpt-dir": ("my checkpoints", "Stable-diffusion")}
        # Parts that Forge loads beside a transformer.
        parts = {"--vae-dir": ("my VAEs", "VAE"), "--text-encoder-dir": ("my text encoders", "text_encoder")}
        places |= {argument: place for argument, place in parts.items() if (models / place[1]).is_dir()}
        if ui.several:
            places = {f"{argument}s": place for argument, place in places.items()}
        for link, folder in places.values():
            (base / link).symlink_to(models / folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            os.environ[ui.python],
            "launch.py",
            *COMMON,
            # Its page's own scripts are asked for, too: the data folder lies elsewhere.
            *(("--api", "--gradio-allowed-path", os.environ[ui.folder]) if page else ("--nowebui",)),
            *ui.arguments,
            "--port",
            str(self.port),
            "--data-dir",
            str(base),
        ]
        command += [part for argument, (link, _) in places.items() for part in (argument, str(base / link))]
        offline = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HOME": str(_hugging_face(base)),
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **offline, **environment}
        self.log: list[str] = []
        self.process = subprocess.Popen(
            command, cwd=os.environ[ui.folder], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.log.append(line.rstrip())

    def ready(self, timeout_s: float = 600.0, **options: object) -> UiServer:
        """`options` of the UI, beside the checkpoint, which is "tiny" where they name none."""
        deadline = time.monotonic() + timeout_s
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, f"{self.ui.name} did not start:\n" + "\n".join(
                self.log[-60:]
            )
            try:
                # A page is there a moment before the API's routes are, and before those of extensions.
                urllib.request.urlopen(f"{self.url}/refit-sidecar/facts", timeout=60).close()
                # The preview that is made without a network of its own, which the UI would have to download.
                self.call("/sdapi/v1/options", {"sd_model_checkpoint": "tiny", "show_progress_type": "Approx cheap", **options})
                return self
            except OSError:
                time.sleep(0.3)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, path: str, body: object | None = None, timeout_s: float = 600.0) -> object:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(
                f"{path} answered {error.code}: {error.read().decode(errors='replace')[:2000]}\n" + "\n".join(self.log[-40:])
            ) from None
        return json.loads(text) if text else None

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _hugging_face(base: Path) -> Path:
    """A cache with the one tokenizer that A1111 asks for by name, copied out of Forge's own files."""
    entry = base / "hugging-face" / "hub" / "models--openai--clip-vit-large-patch14"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("tests")
    source = Path(os.environ["FORGE_DIR"]) / CLIP
    shutil.copytree(source / "tokenizer", entry / "snapshots" / "tests")
    shutil.copy(source / "text_encoder" / "config.json", entry / "snapshots" / "tests")
    return base / "hugging-face"
