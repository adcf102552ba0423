"""Inputs that stay on the device between the steps of a run, under keys of the sidecar's: conditioning crosses the pipe once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Mapping

import torch
from torch import Tensor

from ..failure import HostFailure, expect

# Those used last stay. SDXL's conditioning is 0.6 MB, a video model's 10 MB.
KEPT_BYTES = 256 << 20


class KeptInputs:
    """A key stands for one content for ever. [any thread]"""

    def __init__(self, device: torch.device, kept_bytes: int = KEPT_BYTES) -> None:
        self._device, self._limit = device, kept_bytes
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def whole(self, inputs: dict[str, Tensor], keep: Mapping[str, str], use: Mapping[str, str]) -> dict[str, Tensor]:
        """A step's inputs: those that came, with the ones of `use` (input to key); those of `keep` are kept. Raises HOST_INPUT_FORGOTTEN, HOST_INPUT_INVALID."""
        out = dict(inputs)
        with self._lock:
            for name, key in use.items():
                expect(name not in inputs, "HOST_INPUT_INVALID", f"{name}: expected the input once, brought or by its key")
                value = self._held.get(key)
                if value is None:
                    raise HostFailure(
                        "HOST_INPUT_FORGOTTEN", f"{name}: nothing is kept under this key (any more); send the tensor again", {"input": name}
                    )
                self._held.move_to_end(key)
                out[name] = value
            for name, key in keep.items():
                expect(name in inputs, "HOST_INPUT_INVALID", f"{name}: expected the tensor that is to be kept")
                # A copy of its own: the step's memory is overwritten by the next step.
                out[name] = self._held[key] = inputs[name].to(self._device, copy=True)
            while self._held and self.nbytes > self._limit:
                self._held.popitem(last=False)
        return out

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in self._held.values())

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
