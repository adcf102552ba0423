"""One real sidecar with the torch host on the CPU, its folders full of small random checkpoints of every family that needs no graph."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Iterator

import pytest
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [
    str(ROOT / path)
    for path in ("plugin", "sidecar/hosts/python", "", "test/python/hosts/refit_graphs", "test/python/hosts", "test/python/served")
]
torch.set_num_threads(1)

from served_sidecar import Sidecar  # noqa: E402
from small_files import CHECKPOINTS, write_adapter, write_checkpoint  # noqa: E402


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def whole_folder(folder: Path) -> Path:
    for name in CHECKPOINTS:
        write_checkpoint(folder / "checkpoints", name)
        for seed in (1, 2):
            write_adapter(folder / "loras", name, seed)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    if shutil.which("node") is None or not (ROOT / "sidecar/dist/src/main.js").exists():
        pytest.skip("the sidecar is not built, or there is no node on PATH (npm run build)")
    return whole_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def sidecar(models) -> Iterator[Sidecar]:
    made = Sidecar(models, "--host", "torch", "--precision", "fp32", "--python", sys.executable)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def client(sidecar):
    from refit_sidecar_plugin.client import SidecarClient

    made = SidecarClient("test", "0", data_dir=sidecar.data)
    yield made
    made.close()
