"""A GPU's memory by CUDA's handles for other processes. Allocated from the driver itself, never a part of PyTorch's pool: a handle opens the whole allocation that it points into.

No events go between processes: what waits on the GPU for an event of a process that dies waits for ever. Each side finishes its own work before it speaks.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("refit_host")
# The driver hands out whole pages of this size; a smaller allocation would share its page, and a handle opens the page.
PAGE_BYTES = 2 << 20
HANDLE_BYTES = 64


class DriverError(RuntimeError):
    pass


class Driver:
    """The calls of libcuda that are needed here. They act on the primary context, which is PyTorch's."""

    def __init__(self, ordinal: int) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self._ordinal = ordinal

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise DriverError(f"{name}: {(text.value or b'unknown').decode()} ({code})")

    def uuid(self) -> str:
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), self._ordinal)
        found = (ctypes.c_ubyte * 16)()
        self.call("cuDeviceGetUuid_v2", found, device)
        return bytes(found).hex()

    def current(self) -> None:
        """Makes the context current in this thread. Of one stream: another thread may be capturing a graph, which a wait for the whole device would break."""
        torch.cuda.current_stream(self._ordinal).synchronize()


class CudaBlock:
    def __init__(self, driver: Driver, ordinal: int, nbytes: int) -> None:
        self._driver = driver
        driver.current()
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
        self._driver.current()
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
        self.device = driver.uuid()

    @staticmethod
    def find(kind: str) -> "CudaIpc | None":
        if sys.platform != "linux" or torch.version.cuda is None:
            return None
        ordinal = torch.device(kind).index
        ordinal = torch.cuda.current_device() if ordinal is None else ordinal
        try:
            return CudaIpc(Driver(ordinal), ordinal)
        except (OSError, AttributeError, DriverError) as error:
            log.warning("no memory of the device is shared with clients: %s", error)
            return None

    def allocate(self, nbytes: int) -> CudaBlock:
        return CudaBlock(self._driver, self._ordinal, -(-nbytes // PAGE_BYTES) * PAGE_BYTES)

    def settle(self) -> None:
        torch.cuda.current_stream(self._ordinal).synchronize()
