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
    def __init__(
        self,
        bundle: Bundle,
        weights: EngineWeights,
        loaded: LoadedEngine,
        open_with_residuals: OpenWithResiduals,
        reopen: Callable[[], LoadedEngine],
    ) -> None:
        """`reopen`: the plain engine again, should the other one fail."""
        self._bundle, self._weights = bundle, weights
        self._loaded: LoadedEngine | None = loaded
        self._open_with_residuals, self._reopen = open_with_residuals, reopen
        self._library = f"{loaded.binding.name} {loaded.binding.version}"
        self._residuals = False
        weights.reopen = self._come_back

    @property
    def loaded(self) -> LoadedEngine:
        """Raises HOST_STEP_FAILED when the engine was lost: neither it nor the one that should replace it could be loaded."""
        if self._loaded is None:
            raise HostFailure("HOST_STEP_FAILED", "the engine could not be loaded again; unload it and load it anew")
        return self._loaded

    @property
    def tier(self) -> str:
        """What serves now, in words."""
        return self._library

    @property
    def refused(self) -> list[dict[str, str]]:
        """Faster ways that were tried and are not used: there is one way."""
        return []

    def step(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raises HOST_INPUT_INVALID, HOST_STEP_FAILED, or lets an out-of-memory error through."""
        check_inputs(self._bundle, inputs)
        if has_residuals(inputs) and not self._residuals:
            self._switch()
        elif self._residuals and not has_residuals(inputs):
            inputs = {**inputs, **self._zeros(inputs["sample"])}
        return {self._bundle.outputs[0]["name"]: self.loaded.step(inputs)}

    def _switch(self) -> None:
        self._drop()
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

    def _come_back(self) -> None:
        self._loaded = self._open_with_residuals() if self._residuals else self._reopen()

    @property
    def busy(self) -> bool:
        return False

    def offload(self) -> None:
        """Lets the engine go; the weights bring it back (`EngineWeights.come_back`), from its file and the base."""
        self._drop()

    def release(self) -> None:
        self._drop()
        self._weights.reopen = None

    def _drop(self) -> None:
        self._weights.attach(None)
        if self._loaded is not None:
            self._loaded.release()
        self._loaded = None
