"""Puts the oracles' own modules on the path and keeps torch to one thread, as it runs beside other tests."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
