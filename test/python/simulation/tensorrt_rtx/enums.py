"""Enumerations and plain values of the library."""

from __future__ import annotations

import ctypes
from enum import Enum, IntEnum
from typing import Any

import numpy as np

BuilderFlag = IntEnum("BuilderFlag", "REFIT STRIP_PLAN REFIT_IDENTICAL REFIT_INDIVIDUAL TF32", start=0)
ComputeCapability = IntEnum("ComputeCapability", "NONE CURRENT SM75 SM80 SM86 SM89 SM120", start=0)
CudaGraphStrategy = IntEnum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE", start=0)
EngineInvalidityDiagnostics = IntEnum("EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32})
EngineValidity = IntEnum("EngineValidity", "INVALID SUBOPTIMAL VALID", start=0)
ExecutionContextAllocationStrategy = IntEnum("ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED", start=0)
MemoryPoolType = IntEnum("MemoryPoolType", "WORKSPACE", start=0)
NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", "STRONGLY_TYPED", start=0)
TensorIOMode = IntEnum("TensorIOMode", "NONE INPUT OUTPUT", start=0)
TensorLocation = IntEnum("TensorLocation", "DEVICE HOST", start=0)


class DataType(Enum):
    FLOAT = ("float32", 4)
    HALF = ("float16", 2)
    BF16 = ("bfloat16", 2)
    INT32 = ("int32", 4)
    INT64 = ("int64", 8)

    @property
    def itemsize(self) -> int:
        return self.value[1]

    @property
    def raw(self) -> np.dtype:
        """numpy's dtype of that width; bf16 has none and is moved as u16."""
        return np.dtype("uint16" if self is DataType.BF16 else self.value[0])


OF_ONNX = {1: DataType.FLOAT, 6: DataType.INT32, 7: DataType.INT64, 10: DataType.HALF, 16: DataType.BF16}


class Weights:
    """A pointer with a dtype and a count; reads nothing."""

    def __init__(self, type: DataType, ptr: int, count: int) -> None:
        self.dtype, self.ptr, self.size = type, ptr, count

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, msg: str) -> None: ...


def fail(logger: ILogger, message: str) -> None:
    """As the library does: a line of log, and a false answer by the caller."""
    logger.log(ILogger.ERROR, message)


def read(address: int, dtype: DataType, shape: tuple[int, ...]) -> np.ndarray:
    """A copy of what lies at an address."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(ctypes.string_at(address, count * dtype.itemsize), dtype.raw).reshape(shape)


def write(address: int, value: Any) -> None:
    data = np.ascontiguousarray(value).tobytes()
    ctypes.memmove(address, data, len(data))
