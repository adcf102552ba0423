"""Steps of a TensorRT engine, with or without ControlNet residuals. One engine holds weights at a time."""

from __future__ import annotations

from typing import Callable

import torch
from refit_host.failure import HostFailure
from refit_host.host.bundle import Bundle
from refit_host.host.step_inputs import check_inputs, has_residuals
from torch import Tensor

from .runtime import LoadedEngine
from .weights import EngineWeights

# Makes the engine with residual inputs, which serves every step from then on. Called when the plain one has let its memory go.
OpenWithResiduals = Callable[[], LoadedEngine]


class TensorRTModel:
    def __init__(self, bundle: Bundle, weights: EngineWeights, loaded: LoadedEngine, open_with_residuals: OpenWithResiduals, reopen: Callable[[], LoadedEngine]) -> None:
        """`reopen`: the plain engine again, should the other one fail."""
        self._bundle, self._weights, self._loaded = bundle, weights, loaded
        self._open_with_residuals, self._reopen = open_with_residuals, reopen
        self._residuals = False

    @property
    def loaded(self) -> LoadedEngine:
        return self._loaded

    @property
    def tier(self) -> str:
        """What serves now, in words."""
        return f"{self._loaded.binding.name} {self._loaded.binding.version}"

    def step(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raises HOST_INPUT_INVALID, HOST_STEP_FAILED, or lets an out-of-memory error through."""
        check_inputs(self._bundle, inputs)
        if has_residuals(inputs) and not self._residuals:
            self._switch()
        elif self._residuals and not has_residuals(inputs):
            inputs = {**inputs, **self._zeros(inputs["sample"])}
        return {self._bundle.outputs[0]["name"]: self._loaded.step(inputs)}

    def _switch(self) -> None:
        self._weights.attach(None)
        self._loaded.release()
        try:
            self._loaded = self._open_with_residuals()
            self._residuals = True
        except (HostFailure, torch.OutOfMemoryError):
            self._loaded = self._reopen()
            raise

    def _zeros(self, sample: Tensor) -> dict[str, Tensor]:
        """Residuals that change nothing."""
        sizes = {"batch": sample.shape[0], "height": sample.shape[-2], "width": sample.shape[-1]}

        def size(axis: str | int) -> int:
            if not isinstance(axis, str):
                return axis
            stem, _, divisor = axis.rpartition("_")
            return -(-sizes[stem] // int(divisor)) if stem in sizes else sizes[axis]

        return {port["name"]: torch.zeros([size(axis) for axis in port["shape"]], dtype=sample.dtype) for port in self._bundle.residuals}

    def release(self) -> None:
        self._weights.attach(None)
        self._loaded.release()
