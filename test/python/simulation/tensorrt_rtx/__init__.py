"""A stand-in for `tensorrt_rtx` in tests: the same names and the same refusals, with ONNX Runtime doing the arithmetic.

Only what the host uses is here; `test_real_library.py` checks every name against the real module.
"""

import device

from .build import Builder, IBuilderConfig, INetworkDefinition, IOptimizationProfile, OnnxParser
from .enums import (
    BuilderFlag,
    ComputeCapability,
    CudaGraphStrategy,
    DataType,
    EngineInvalidityDiagnostics,
    EngineValidity,
    ExecutionContextAllocationStrategy,
    ILogger,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    TensorIOMode,
    TensorLocation,
    Weights,
)
from .execute import ICudaEngine, IExecutionContext, IRuntimeCache, IRuntimeConfig, Runtime
from .refit import Refitter

__version__ = device.VERSION
__all__ = [
    "Builder", "BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "DataType", "EngineInvalidityDiagnostics", "EngineValidity",
    "ExecutionContextAllocationStrategy", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "ILogger", "INetworkDefinition", "IOptimizationProfile",
    "IRuntimeCache", "IRuntimeConfig", "MemoryPoolType", "NetworkDefinitionCreationFlag", "OnnxParser", "Refitter", "Runtime", "TensorIOMode",
    "TensorLocation", "Weights",
]  # fmt: skip
