"""Puts the hosts' package and the exporter's small structures on the path and keeps torch to one thread, as it runs beside other tests."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "sidecar/hosts/python"), str(ROOT), str(ROOT / "test/python/graphs"), str(Path(__file__).parent)]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield
