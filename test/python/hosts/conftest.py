"""Puts the hosts' package and the exporter's small structures on the path and keeps torch to one thread, as it runs beside other tests."""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "sidecar/hosts/python"), str(ROOT), str(ROOT / "test/python/hosts/refit_graphs"), str(Path(__file__).parent)]
torch.set_num_threads(1)
