"""CUDA graphs of whole steps, one per module and input shape: the host's work per step becomes one launch. Needs no compiler.

Weights are read through fixed addresses, so a refit in place is seen by the next replay.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Callable, Mapping

import torch
from torch import Tensor

Inputs = Mapping[str, Tensor]
Forward = Callable[[torch.nn.Module, Inputs], Tensor]
# Each shape keeps its activations' memory; a user alternates between few sizes.
MAX_SHAPES = 6
WARM_UPS = 2


@dataclass(frozen=True)
class Captured:
    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    output: Tensor


class GraphedStep:
    """Callable with a module and inputs, as `forward`. The output is overwritten by the next call with the same shapes."""

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._device = device
        self._graphs: OrderedDict[tuple, Captured] = OrderedDict()
        self._pool: tuple[int, int] | None = None
        self._stream = torch.cuda.Stream(device)

    @staticmethod
    def _key(module: torch.nn.Module, inputs: Inputs) -> tuple:
        return id(module), *((name, tuple(value.shape), value.dtype) for name, value in sorted(inputs.items()))

    def has(self, module: torch.nn.Module, inputs: Inputs) -> bool:
        """Whether the next call with these shapes is a mere replay."""
        return self._key(module, inputs) in self._graphs

    def __call__(self, module: torch.nn.Module, inputs: Inputs) -> Tensor:
        key = self._key(module, inputs)
        captured = self._graphs.get(key)
        if captured is None:
            captured = self._capture(module, inputs)
            self._graphs[key] = captured
            while len(self._graphs) > MAX_SHAPES:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        for name, value in inputs.items():
            captured.inputs[name].copy_(value, non_blocking=True)
        captured.graph.replay()
        return captured.output

    def _capture(self, module: torch.nn.Module, inputs: Inputs) -> Captured:
        static = {name: value.to(self._device, copy=True) for name, value in inputs.items()}
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                self._forward(module, static)
        self._stream.synchronize()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # thread_local: another thread may allocate for a refit that is being prepared meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            output = self._forward(module, static)
        current.wait_stream(self._stream)
        return Captured(graph, static, output)

    def forget(self, module: torch.nn.Module) -> None:
        """Drops the graphs of a module that goes: another may get its place in memory."""
        for key in [key for key in self._graphs if key[0] == id(module)]:
            del self._graphs[key]

    def release(self) -> None:
        """Drops all graphs and their memory."""
        self._graphs.clear()
        self._pool = None
