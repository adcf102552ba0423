"""Host memory that the device can copy from at full speed, without PyTorch's rounding of pinned blocks to powers of two."""

from __future__ import annotations

import weakref

import psutil
import torch
from torch import Tensor

from ..failure import HostFailure

# The rest of the computer (UI, text encoders, file cache) needs this much.
KEEP_FREE_BYTES = 3 << 30


def free_bytes() -> int:
    """Host memory that can still be taken."""
    return max(0, psutil.virtual_memory().available - KEEP_FREE_BYTES)


def host_arena(nbytes: int, device: torch.device) -> Tensor:
    """uint8 [nbytes], registered with CUDA when `device` is one; unregistered when the tensor dies. Raises HOST_OUT_OF_MEMORY."""
    try:
        block = torch.empty(nbytes, dtype=torch.uint8)
    except RuntimeError as error:
        raise HostFailure(
            "HOST_OUT_OF_MEMORY", "no host memory for the pristine base; close programs or use base: file", {"bytes": nbytes}
        ) from error
    if device.type == "cuda":
        runtime = torch.cuda.cudart()
        pointer = block.data_ptr()
        code = int(runtime.cudaHostRegister(pointer, nbytes, 0))
        if code != 0:
            raise HostFailure(
                "HOST_OUT_OF_MEMORY", "the driver refused to pin host memory; use base: file", {"bytes": nbytes, "cuda": code}
            )
        weakref.finalize(block, runtime.cudaHostUnregister, pointer)
    return block
