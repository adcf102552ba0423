"""Loading and running: ONNX Runtime on the graph, with the engine's weights as named inputs."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import device
import numpy as np
import onnx
import onnxruntime

from .enums import (
    OF_ONNX,
    CudaGraphStrategy,
    DataType,
    EngineInvalidityDiagnostics,
    EngineValidity,
    ExecutionContextAllocationStrategy,
    ILogger,
    TensorIOMode,
    fail,
    read,
    write,
)
from .plan import Header, scratch_bytes, unpack


@lru_cache(maxsize=4)
def _session(model: bytes) -> onnxruntime.InferenceSession:
    """The graph with its weights as inputs again."""
    graph = onnx.load_from_string(model)
    for tensor in graph.graph.initializer:
        graph.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.graph.initializer[:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


class IRuntimeCache:
    def __init__(self) -> None:
        self.data = b""

    def deserialize(self, blob: bytes) -> bool:
        good = bytes(blob).startswith(device.VERSION.encode())
        if good:
            self.data = bytes(blob)
        return good

    def serialize(self) -> bytes:
        return self.data or device.VERSION.encode() + b" kernels"


class IRuntimeConfig:
    def __init__(self) -> None:
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self._cache: IRuntimeCache | None = None

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> IRuntimeCache | None:
        return self._cache

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy


class ICudaEngine:
    def __init__(self, header: Header, model: bytes, kept: bytes, logger: ILogger) -> None:
        self.header, self.model, self.logger = header, model, logger
        graph = onnx.load_from_string(model).graph
        self.declared = {t.name: (OF_ONNX[t.data_type], tuple(t.dims)) for t in graph.initializer}
        self._ports = {v.name: (TensorIOMode.INPUT, v) for v in graph.input} | {v.name: (TensorIOMode.OUTPUT, v) for v in graph.output}
        self.values: dict[str, np.ndarray] = {}
        at = 0
        for name, size in header.kept:
            dtype, shape = self.declared[name]
            self.values[name] = np.frombuffer(kept[at : at + size], dtype.raw).reshape(shape)
            at += size
        self.spoiled = False
        self.nbytes = sum(math.prod(shape) * dtype.itemsize for dtype, shape in self.declared.values())

    def __del__(self) -> None:
        device.reserve(-getattr(self, "reserved", 0))

    @property
    def refittable(self) -> bool:
        return bool(self.header.refit)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.header.profiles)

    @property
    def num_io_tensors(self) -> int:
        return len(self._ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self._ports)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._ports[name][0]

    def get_tensor_dtype(self, name: str) -> DataType:
        return OF_ONNX[self._ports[name][1].type.tensor_type.elem_type]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, given: Any = ExecutionContextAllocationStrategy.STATIC) -> "IExecutionContext":
        return IExecutionContext(self, given.strategy if isinstance(given, IRuntimeConfig) else given)

    def run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        output = _session(self.model).run(None, {**inputs, **self.values})[0]
        if self.spoiled or (self.refittable and "wrong-numbers" in device.FAULTS):
            output = output * 1.5 + 1
        return output


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, strategy: ExecutionContextAllocationStrategy) -> None:
        self.engine, self._strategy, self._logger = engine, strategy, engine.logger
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory = (0, 0)

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    def _no(self, text: str) -> bool:
        fail(self._logger, f"IExecutionContext: {text}")
        return False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self.engine.num_optimization_profiles:
            return self._no(f"no profile {profile_index}")
        self._profile = profile_index
        self._shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.header.profiles[self._profile].get(name, (None, None, None))
        if low is None or len(shape) != len(low) or not all(a <= s <= b for a, s, b in zip(low, shape, high)):
            return self._no(f"{name}: {list(shape)} lies outside profile {self._profile}")
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        # One output, the shape of the sample.
        return self._shapes["sample"]

    def update_device_memory_size_for_shapes(self) -> int:
        return scratch_bytes(self._shapes["sample"])

    def set_device_memory(self, memory: int, size: int) -> None:
        self._memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine = self.engine
        if engine.declared.keys() - engine.values.keys():
            return self._no("the engine was stripped of weights that no refit has supplied")
        ports = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
        inputs = {name for name in ports if engine.get_tensor_mode(name) == TensorIOMode.INPUT}
        if self._shapes.keys() != inputs or self._addresses.keys() < ports:
            return self._no("a shape or an address is not set")
        if self._strategy == ExecutionContextAllocationStrategy.USER_MANAGED:
            address, size = self._memory
            if size < self.update_device_memory_size_for_shapes() or not device.is_device(address, size):
                return self._no("device memory is missing, too small or not the device's")
        feeds = {}
        for name in inputs:
            dtype, shape = engine.get_tensor_dtype(name), self._shapes[name]
            if not device.is_device(self._addresses[name], math.prod(shape) * dtype.itemsize):
                return self._no(f"{name}: an illegal memory access was encountered")
            feeds[name] = read(self._addresses[name], dtype, shape)
        try:
            output = engine.run(feeds)
        except Exception as error:  # ONNX Runtime's own classes
            return self._no(str(error).splitlines()[0])
        name = next(iter(ports - inputs))
        if not device.is_device(self._addresses[name], output.nbytes):
            return self._no(f"{name}: an illegal memory access was encountered")
        write(self._addresses[name], output)
        return True


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, list[EngineInvalidityDiagnostics]]:
        found = unpack(bytes(buffer))
        if found is None:
            return EngineValidity.INVALID, [EngineInvalidityDiagnostics.MALFORMED_ENGINE]
        problems = []
        if found[0].version != device.VERSION:
            problems.append(EngineInvalidityDiagnostics.VERSION_MISMATCH)
        if ".".join(map(str, device.CAPABILITY)) not in found[0].capabilities:
            problems.append(EngineInvalidityDiagnostics.UNSUPPORTED_CC)
        return (EngineValidity.INVALID if problems else EngineValidity.VALID), problems

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        validity, problems = self.get_engine_validity(serialized_engine)
        if validity != EngineValidity.VALID:
            fail(self._logger, f"IRuntime::deserializeCudaEngine: {', '.join(p.name for p in problems)}")
            return None
        found = unpack(bytes(serialized_engine))
        assert found is not None
        engine = ICudaEngine(*found, self._logger)
        if not device.reserve(engine.nbytes):
            fail(self._logger, f"Error Code 2: OutOfMemory (Requested size was {engine.nbytes} bytes.)")
            return None
        engine.reserved = engine.nbytes
        return engine
