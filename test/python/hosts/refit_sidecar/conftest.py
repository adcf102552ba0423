"""Puts the package on the path and keeps torch to one thread, as it runs beside other tests."""

import sys
import warnings
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT / "sidecar/hosts/python"), str(Path(__file__).parent)]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quiet():
    """PEFT warns at every second adapter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
