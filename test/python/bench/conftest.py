"""Puts the hosts' package and the small structures of its tests on the path and keeps torch to one thread, as it runs beside other tests."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / path) for path in ("sidecar/hosts/python", "", "test/python/hosts/refit_graphs", "test/python/hosts")]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield
