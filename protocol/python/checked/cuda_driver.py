"""CUDA's driver by ctypes: the calls that share memory of a GPU between processes. They act on the context that is current in the thread."""

from __future__ import annotations

import ctypes
from typing import Any

#: Bytes of a handle that another process opens.
HANDLE_BYTES = 64


class DriverError(RuntimeError):
    """The driver is not there, or it refused a call. The text says which and why."""


class Driver:
    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise DriverError("the library of CUDA's driver is not found") from error

    def call(self, name: str, *arguments: Any) -> None:
        """Raises DriverError."""
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise DriverError(f"the driver has no {name}") from error
        code = function(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise DriverError(f"the driver answers {name} with {(text.value or b'unknown').decode()} ({code})")

    def uuid(self, ordinal: int) -> str:
        """Of this process's device `ordinal`: 32 hex digits, in every process of the computer the same."""
        device, found = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        self.call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
        self.call("cuDeviceGetUuid_v2", found, device)
        return bytes(found).hex()
