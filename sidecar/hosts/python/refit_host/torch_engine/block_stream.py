"""Copies streamed weights to the device while a step runs: two buffers, the next block arrives while the present one computes.

Works on any way of running the module, a captured CUDA graph among them: the copies become part of the graph.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..weights.split import BUFFERS
from ..weights.streamed import StreamedWeights


class Copier(Protocol):
    """Moves a block into a buffer. `start`: after all that the step has queued so far; `wait`: what the step queues next comes after the
    copy; `end`: what comes after the step waits for every copy."""

    def start(self, buffer: int, target: Tensor, source: Tensor) -> None: ...

    def wait(self, buffer: int) -> None: ...

    def end(self) -> None: ...


class DirectCopier:
    """Copies where it is asked to: for a device without streams."""

    def start(self, buffer: int, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def wait(self, buffer: int) -> None:
        pass

    def end(self) -> None:
        pass


class CudaCopier:
    """Copies on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._marks: dict[int, torch.cuda.Event] = {}

    def start(self, buffer: int, target: Tensor, source: Tensor) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            self._marks[buffer] = self._stream.record_event()

    def wait(self, buffer: int) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._marks[buffer])

    def end(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


class BlockStream:
    """Hooks on a module whose streamed blocks are views of the buffers of `weights`."""

    def __init__(self, weights: StreamedWeights, copier: Copier | None = None) -> None:
        self._weights = weights
        self._copier = copier or (CudaCopier(weights.device) if weights.device.type == "cuda" else DirectCopier())
        # Which block each buffer holds, or will once its copy is through; -1: none.
        self._held = [-1] * BUFFERS

    def attach(self, module: torch.nn.Module) -> torch.nn.Module:
        """Adds the hooks; returns the module."""
        module.register_forward_pre_hook(self._begin)
        module.register_forward_hook(self._end)
        for number, block in enumerate(self._weights.split.blocks):
            child = module.get_submodule(block.path)
            child.register_forward_pre_hook(partial(self._enter, number))
            child.register_forward_hook(partial(self._leave, number))
        return module

    def _fetch(self, number: int) -> None:
        block = self._weights.split.blocks[number]
        buffer = number % BUFFERS
        self._copier.start(buffer, self._weights.buffers[buffer][: block.end - block.begin], self._weights.stored(block))
        self._held[buffer] = number

    def _begin(self, module: torch.nn.Module, given: object) -> None:
        # A refit between two steps used the buffers: nothing in them can be trusted.
        self._held = [-1] * BUFFERS
        for number in range(min(BUFFERS, len(self._weights.split.blocks))):
            self._fetch(number)

    def _enter(self, number: int, module: torch.nn.Module, given: object) -> None:
        if self._held[number % BUFFERS] != number:
            self._fetch(number)  # entered out of order: late, but right
        self._copier.wait(number % BUFFERS)

    def _leave(self, number: int, module: torch.nn.Module, given: object, output: object) -> None:
        if number + BUFFERS < len(self._weights.split.blocks):
            self._fetch(number + BUFFERS)

    def _end(self, module: torch.nn.Module, given: object, output: object) -> None:
        self._copier.end()
