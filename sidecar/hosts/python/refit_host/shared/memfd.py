"""The processor's memory: a file in memory without a name, sealed against a change of its size.

So a client can spoil its own values and nothing else: nobody meets the end of a file.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

LABEL = "refit-segment"
BOOT = Path("/proc/sys/kernel/random/boot_id")


class SealedBlock:
    def __init__(self, nbytes: int) -> None:
        import fcntl

        self._file = os.memfd_create(LABEL, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # Taken now, so that a want of memory shows here and not in the middle of a step.
            os.posix_fallocate(self._file, 0, nbytes)
            fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._memory: Tensor | None = torch.frombuffer(mmap.mmap(self._file, nbytes), dtype=torch.uint8)
        except BaseException:
            os.close(self._file)
            raise

    @property
    def memory(self) -> Tensor:
        assert self._memory is not None
        return self._memory

    @property
    def handle(self) -> bytes:
        return f"{os.getpid()}:{self._file}".encode()

    def release(self) -> None:
        # The mapping goes with the last tensor that looks at it.
        self._memory = None
        os.close(self._file)


class Memfd:
    name = "memfd"

    def __init__(self, device: str) -> None:
        self.device = device

    @staticmethod
    def find() -> "Memfd | None":
        try:
            return Memfd(BOOT.read_text().strip()) if sys.platform == "linux" and hasattr(os, "memfd_create") else None
        except OSError:
            return None

    def allocate(self, nbytes: int) -> SealedBlock:
        return SealedBlock(nbytes)

    def settle(self) -> None:
        """Writes of one process are there for the other at once."""
