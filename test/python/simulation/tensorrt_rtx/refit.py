"""Refits: named weights by pointer, complete groups only, read when the refit runs."""

from __future__ import annotations

import math
import re
from collections import defaultdict

import device

from .enums import DataType, TensorLocation, Weights, fail, read
from .execute import ICudaEngine

# Weights that this "library" stores combined: one of them cannot change without the others.
COMBINED = re.compile(r"^(.*)\.(to_q|to_k|to_v)\.weight$|^(.*norm.*)\.(weight|bias)$")


class Refitter:
    def __new__(cls, engine: ICudaEngine, logger: object) -> "Refitter":
        if not engine.refittable:
            fail(engine.logger, "createInferRefitter: the engine was not built refittable")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return super().__new__(cls)

    def __init__(self, engine: ICudaEngine, logger: object) -> None:
        self._engine, self._logger = engine, engine.logger
        self.weights_validation = True
        self._set: dict[str, tuple[Weights, TensorLocation]] = {}
        groups: dict[str, list[str]] = defaultdict(list)
        for name in engine.header.refittable:
            match = COMBINED.match(name)
            groups[(match.group(1) or match.group(3)) if match else name].append(name)
        self._group = {name: group for group in groups.values() for name in group}

    def get_all_weights(self) -> list[str]:
        return list(self._engine.header.refittable)

    def get_missing_weights(self) -> list[str]:
        empty = {name for name in self._engine.header.refittable if name not in self._engine.values}
        combined = {other for name in self._set for other in self._group[name]}
        return sorted((empty | combined) - self._set.keys())

    def get_weights_prototype(self, weights_name: str) -> Weights:
        if weights_name not in self._group:
            return Weights(DataType.FLOAT, 0, -1)
        dtype, shape = self._engine.declared[weights_name]
        return Weights(dtype, 0, math.prod(shape))

    def set_named_weights(self, name: str, weights: Weights, location: TensorLocation = TensorLocation.HOST) -> bool:
        prototype = self.get_weights_prototype(name)
        if prototype.size != weights.size or prototype.dtype is not weights.dtype:
            fail(
                self._logger,
                f"IRefitter::setNamedWeights: {name}: expected {prototype.size} of {prototype.dtype.name}, got {weights.size} of {weights.dtype.name}",
            )
            return False
        self._set[name] = (weights, location)
        return True

    def unset_named_weights(self, weights_name: str) -> bool:
        return self._set.pop(weights_name, None) is not None

    def refit_cuda_engine(self) -> bool:
        if self.get_missing_weights():
            fail(self._logger, f"IRefitter::refitCudaEngine: {len(self.get_missing_weights())} weights are missing")
            return False
        # Weights that stay set are read again by every refit: they must be unset before their memory goes.
        for name, (weights, location) in self._set.items():
            if device.is_device(weights.ptr, weights.nbytes) != (location == TensorLocation.DEVICE):
                fail(self._logger, f"IRefitter: {name}: an illegal memory access was encountered")
                return False
            value = read(weights.ptr, weights.dtype, self._engine.declared[name][1])
            if self._engine.header.refit == "identical" and value.any():
                self._engine.spoiled = True
            self._engine.values[name] = value
        return True

    def refit_cuda_engine_async(self, stream_handle: int) -> bool:
        return self.refit_cuda_engine()
