"""Host memory that the device can copy from at full speed, without PyTorch's rounding of pinned blocks to powers of two."""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref

import psutil
import torch
from torch import Tensor

from ..failure import HostFailure

# The rest of the computer (UI, text encoders, file cache) needs this much.
KEEP_FREE_BYTES = 3 << 30
HUGE_PAGE_BYTES = 2 << 20


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
        code = pin(block)
        if code != 0:
            raise HostFailure(
                "HOST_OUT_OF_MEMORY", "the driver refused to pin host memory; use base: file", {"bytes": nbytes, "cuda": code}
            )
    return block


def pin(block: Tensor) -> int:
    """Registers it with CUDA until the tensor dies; 0, or CUDA's error. Not registered it is copied as well, but slower."""
    runtime = torch.cuda.cudart()
    pointer = block.data_ptr()
    code = int(runtime.cudaHostRegister(pointer, block.numel(), 0))
    if code == 0:
        weakref.finalize(block, runtime.cudaHostUnregister, pointer)
    return code


def in_huge_pages(block: Tensor) -> None:
    """Asks Linux for huge pages: a block of 85 MB is touched first, and pinned, in 42 pieces instead of 21,000. Where there are none nothing changes."""
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    begin = -(-block.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = block.data_ptr() + block.numel() - begin
    if length >= HUGE_PAGE_BYTES:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
