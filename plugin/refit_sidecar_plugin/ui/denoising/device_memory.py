"""Memory of an engine's device, opened in this process: a GPU's by CUDA's handles, the processor's as a file in memory.

The engine host owns it. Nothing here can reach other memory of the host, and nothing waits for the host: each side finishes its own work before it speaks.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch

from ...checked.cuda_driver import HANDLE_BYTES, Driver, DriverError

# Names of the wire (`segments.open`).
CUDA_IPC, MEMFD = "cuda-ipc", "memfd"
_MEMFD_LINK = "/memfd:refit-segment (deleted)"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LAZY = 1


class CannotOpen(Exception):
    """The text completes the sentence "tensors go through the processor's memory: ..."."""


class Opener(Protocol):
    medium: str
    #: The device of this process, by a name that is the same in every process of the computer.
    device: str

    def open(self, handle: bytes, nbytes: int) -> torch.Tensor:
        """All of it as bytes; open as long as the tensor, or a view of it, lives. Raises CannotOpen."""
        ...

    def settle(self) -> None:
        """Returns when everything that was written in the current stream is there for others to read."""
        ...


def opener_of(device: torch.device) -> Opener:
    """For tensors on this device. Raises CannotOpen."""
    if sys.platform != "linux":
        raise CannotOpen("only Linux opens memory of another process's device")
    if device.type == "cuda" and torch.version.cuda is not None:
        return CudaIpc(device)
    if device.type == "cpu":
        return Memfd()
    raise CannotOpen(f"memory of a device of the kind {device.type} cannot be opened from another process")


class _Handle(ctypes.Structure):
    """The driver takes it by value."""

    _fields_ = (("bytes", ctypes.c_ubyte * HANDLE_BYTES),)


class _Mapped:
    """Looks like an array on the GPU to PyTorch, which keeps it as long as a tensor looks at it."""

    def __init__(self, driver: Driver, device: torch.device, pointer: int, nbytes: int) -> None:
        self._driver, self._device, self._pointer = driver, device, pointer
        self.__cuda_array_interface__ = {"shape": (nbytes,), "typestr": "|u1", "data": (pointer, False), "strides": None, "version": 3}

    def __del__(self) -> None:
        try:
            # A copy out of it may still be under way. Of one stream: a wait for the whole device would break a graph that another thread captures.
            torch.cuda.current_stream(self._device).synchronize()
            self._driver.call("cuIpcCloseMemHandle", ctypes.c_uint64(self._pointer))
        except Exception:
            # The process is ending, or its context is broken: the driver takes the mapping with it.
            return


@contextlib.contextmanager
def _by_the_driver() -> Iterator[None]:
    try:
        yield
    except DriverError as error:
        raise CannotOpen(str(error)) from error


class CudaIpc:
    """PyTorch's own way of sharing tensors needs its own allocator on both sides; ComfyUI runs on CUDA's (cudaMallocAsync)."""

    medium = CUDA_IPC

    def __init__(self, device: torch.device) -> None:
        ordinal = torch.cuda.current_device() if device.index is None else device.index
        self._device = torch.device("cuda", ordinal)
        with _by_the_driver():
            self._driver = Driver()
            self.device = self._driver.uuid(ordinal)

    def open(self, handle: bytes, nbytes: int) -> torch.Tensor:
        if len(handle) != HANDLE_BYTES:
            raise CannotOpen("the engine host gave a handle of another size")
        # The device's context becomes current in this thread.
        torch.cuda.current_stream(self._device).synchronize()
        pointer = ctypes.c_uint64()
        with _by_the_driver():
            self._driver.call("cuIpcOpenMemHandle_v2", ctypes.byref(pointer), _Handle.from_buffer_copy(handle), ctypes.c_uint(_LAZY))
            mapped = _Mapped(self._driver, self._device, pointer.value, nbytes)
            base, size = ctypes.c_uint64(), ctypes.c_size_t()
            self._driver.call("cuMemGetAddressRange_v2", ctypes.byref(base), ctypes.byref(size), pointer)
        if base.value != pointer.value or size.value < nbytes:
            raise CannotOpen("the engine host gave a handle of another size of memory")
        return torch.as_tensor(mapped, device=self._device)

    def settle(self) -> None:
        torch.cuda.current_stream(self._device).synchronize()


class Memfd:
    medium = MEMFD

    def __init__(self) -> None:
        try:
            self.device = _BOOT.read_text().strip()
        except OSError as error:
            raise CannotOpen("this computer does not say which one it is") from error

    def open(self, handle: bytes, nbytes: int) -> torch.Tensor:
        process, _, number = handle.decode("ascii", "replace").partition(":")
        if not (process.isdecimal() and number.isdecimal()):
            raise CannotOpen("the engine host gave a handle of another kind")
        path = f"/proc/{process}/fd/{number}"
        try:
            # In another container the number stands for another process: nothing but such a file is opened.
            if os.readlink(path) != _MEMFD_LINK:
                raise CannotOpen("the engine host runs in another container")
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise CannotOpen(f"the engine host's memory cannot be opened from this process ({error.strerror})") from error
        try:
            _check_sealed(file, nbytes)
            return torch.frombuffer(mmap.mmap(file, nbytes), dtype=torch.uint8)
        except (OSError, ValueError) as error:
            raise CannotOpen("the engine host's memory cannot be mapped into this process") from error
        finally:
            os.close(file)

    def settle(self) -> None:
        """Writes of one process are there for the other at once."""


def _check_sealed(file: int, nbytes: int) -> None:
    """A file that could get shorter would end this process."""
    import fcntl

    if os.fstat(file).st_size < nbytes or not fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
        raise CannotOpen("the engine host's memory could change its size")
