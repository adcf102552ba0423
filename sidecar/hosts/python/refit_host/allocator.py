"""The device allocator that this process runs on.

CUDA graphs of whole steps, with memory pools of their own, work on PyTorch's; on CUDA's asynchronous one they break after a few prompts.
"""

from __future__ import annotations

from typing import Callable

import torch

NEEDED = "native"


class WrongAllocator(RuntimeError):
    """The text says which one was found, and where it comes from."""


def check_allocator(device: torch.device, backend: Callable[[], str] | None = None) -> None:
    """Raises WrongAllocator where another one is chosen. The host asks before its first allocation."""
    if device.type != "cuda":
        return
    found = (backend or torch.cuda.get_allocator_backend)()
    if found != NEEDED:
        raise WrongAllocator(
            f"expected PyTorch's own CUDA allocator ({NEEDED}), this process was started with {found}: take backend:{found} out of PYTORCH_ALLOC_CONF and "
            "PYTORCH_CUDA_ALLOC_CONF (option host-env)"
        )
