"""How memory of the device is made so that another process can open it. One class a way; everything else is in `memory.py`."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Block(Protocol):
    """One allocation that nothing else lies in: whoever opens it sees this and no more. Filled with zeros at first."""

    @property
    def memory(self) -> Tensor:
        """All of it, as bytes on the device."""
        ...

    @property
    def handle(self) -> bytes:
        """What another process opens it by."""
        ...

    def release(self) -> None:
        """Gives it back. A client that still has it open keeps its own reference to it."""
        ...


class Medium(Protocol):
    name: str
    #: The device, by a name that is the same in every process of this computer.
    device: str

    def allocate(self, nbytes: int) -> Block:
        """Raises OSError or RuntimeError where there is not so much, or the driver refuses."""
        ...

    def settle(self) -> None:
        """Returns when everything that was written so far is there for others to read."""
        ...


BELL_BYTES = 4096


def bell_of() -> Block | None:
    """A page of main memory that another process can look at without a call; None where there is no such thing."""
    from .memfd import Memfd

    found = Memfd.find()
    try:
        return None if found is None else found.allocate(BELL_BYTES)
    except OSError:
        return None


def medium_of(kind: str) -> Medium | None:
    """Of a torch device, by its type and number ("cuda:0"); None where there is no way."""
    # Imported here: nothing of a driver is looked for in a host that shares nothing.
    if kind.partition(":")[0] == "cuda":
        from .cuda import CudaIpc

        return CudaIpc.find(kind)
    if kind == "cpu":
        from .memfd import Memfd

        return Memfd.find()
    return None
