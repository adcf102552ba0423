"""A GPU's memory by CUDA's handles for other processes. Allocated from the driver itself, never a part of PyTorch's pool: a handle opens the whole allocation that it points into.

No events go between processes: what waits on the GPU for an event of a process that dies waits for ever. Each side finishes its own work before it speaks.
"""

from __future__ import annotations

import ctypes
import logging
import sys

import torch
from torch import Tensor

from ..checked.cuda_driver import HANDLE_BYTES, Driver, DriverError

log = logging.getLogger("refit_host")
# The driver hands out whole pages of this size; a smaller allocation would share its page, and a handle opens the page.
PAGE_BYTES = 2 << 20


def _make_current(ordinal: int) -> None:
    """PyTorch's context, in this thread. Of one stream: another thread may be capturing a graph, which a wait for the whole device would break."""
    torch.cuda.current_stream(ordinal).synchronize()


class CudaBlock:
    def __init__(self, driver: Driver, ordinal: int, nbytes: int) -> None:
        self._driver, self._ordinal = driver, ordinal
        _make_current(ordinal)
        pointer = ctypes.c_uint64()
        driver.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(nbytes))
        self._pointer = pointer.value
        try:
            driver.call("cuMemsetD8_v2", ctypes.c_uint64(self._pointer), ctypes.c_ubyte(0), ctypes.c_size_t(nbytes))
            handle = (ctypes.c_ubyte * HANDLE_BYTES)()
            driver.call("cuIpcGetMemHandle", handle, ctypes.c_uint64(self._pointer))
            self.handle = bytes(handle)
            self._memory: Tensor | None = tensor_at(self._pointer, nbytes, ordinal)
        except BaseException:
            driver.call("cuMemFree_v2", ctypes.c_uint64(self._pointer))
            raise

    @property
    def memory(self) -> Tensor:
        assert self._memory is not None
        return self._memory

    def release(self) -> None:
        self._memory = None
        _make_current(self._ordinal)
        self._driver.call("cuMemFree_v2", ctypes.c_uint64(self._pointer))


def tensor_at(pointer: int, nbytes: int, ordinal: int) -> Tensor:
    """Bytes of the device as a tensor that owns nothing."""

    class Place:
        __cuda_array_interface__ = {"shape": (nbytes,), "typestr": "|u1", "data": (pointer, False), "strides": None, "version": 3}

    return torch.as_tensor(Place(), device=torch.device("cuda", ordinal))


class CudaIpc:
    name = "cuda-ipc"

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self._driver, self._ordinal = driver, ordinal
        self.device = driver.uuid(ordinal)

    @staticmethod
    def find(kind: str) -> "CudaIpc | None":
        if sys.platform != "linux" or torch.version.cuda is None:
            return None
        ordinal = torch.device(kind).index
        ordinal = torch.cuda.current_device() if ordinal is None else ordinal
        try:
            return CudaIpc(Driver(), ordinal)
        except DriverError as error:
            log.warning("no memory of the device is shared with clients: %s", error)
            return None

    def allocate(self, nbytes: int) -> CudaBlock:
        return CudaBlock(self._driver, self._ordinal, -(-nbytes // PAGE_BYTES) * PAGE_BYTES)

    def settle(self) -> None:
        torch.cuda.current_stream(self._ordinal).synchronize()
