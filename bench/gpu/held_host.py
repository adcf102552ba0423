"""The host's process on a computer without a GPU, believing a file about free device memory: so the bench's own logic is tried before a card is rented for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from refit_host import __main__ as program
from refit_host.torch_engine import maker, placing
from refit_host.weights.host_memory import free_bytes
from refit_host.weights.memory import Budget

from .occupant import PRETENCE


def _budget(device: torch.device, cap_bytes: int | None) -> Budget:
    return Budget(int(Path(os.environ[PRETENCE]).read_text()), free_bytes())


placing.device_budget = maker.device_budget = _budget

if __name__ == "__main__":
    sys.exit(program.main())
