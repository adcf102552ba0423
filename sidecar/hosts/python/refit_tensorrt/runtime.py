"""An engine on the device: loaded, stepped, with scratch memory for the shapes in use and not for the largest ones.

In: a serialised engine, input tensors. Out: the output tensor. The weights come through `sink.py`.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import torch
from refit_host.failure import HostFailure, expect
from torch import Tensor

from . import device as gpu
from .binding import DTYPES, Binding
from .profiles import Port, Profile, choose, limits

# A block this much larger than needed goes back; smaller changes keep it, so that alternating sizes do not allocate.
KEEP_FACTOR = 2


class EngineUnloadable(Exception):
    """The library refuses these bytes: another version, another device, damage. The engine is to be built again."""


class LoadedEngine:
    """Not thread-safe: the host's live lane alone steps and refits it."""

    def __init__(
        self, binding: Binding, plan: bytes, profiles: Sequence[Profile], ports: Sequence[Port], device: torch.device, cache: bytes | None
    ) -> None:
        """`ports`: inputs of a step. `cache`: what the runtime compiled for this engine earlier. Raises EngineUnloadable, HOST_OUT_OF_MEMORY."""
        self.binding, self._profiles, self._ports, self._device = binding, tuple(profiles), tuple(ports), device
        self._runtime = binding.trt.Runtime(binding.logger)
        binding.complaints.clear()
        self.engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            wanted = binding.refused_memory()
            said = binding.said()
            expect(wanted is None, "HOST_OUT_OF_MEMORY",
                   "the device has too little free memory for the engine's weights: let the UI unload its models, or choose a smaller precision", bytes=wanted)  # fmt: skip
            raise EngineUnloadable(said)
        self.stream = gpu.make_stream(device)
        self._config: Any = None
        self._context: Any = self._make_context(cache)
        expect(
            self._context is not None,
            "HOST_OUT_OF_MEMORY",
            f"the library made no execution context: {binding.said()}; let the UI unload its models",
        )
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._profile = -1
        self._buffers: dict[str, Tensor] = {}
        self._scratch: Tensor | None = None
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        outputs = [name for name in names if self.engine.get_tensor_mode(name) == binding.trt.TensorIOMode.OUTPUT]
        expect(len(outputs) == 1, "HOST_GRAPH_INVALID", f"expected one output, the engine has {len(outputs)}; export the graph again")
        self.output = outputs[0]
        back = {getattr(binding.trt.DataType, text): dtype for dtype, text in DTYPES.items() if hasattr(binding.trt.DataType, text)}
        self.dtypes = {name: back[self.engine.get_tensor_dtype(name)] for name in names}

    def _make_context(self, cache: bytes | None) -> Any:
        trt = self.binding.trt
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(self.engine, "create_runtime_config"):
            return self.engine.create_execution_context(strategy)
        self._config = self.engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(strategy)
        if self.binding.rtx:
            self._config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            kernels = self._config.create_runtime_cache()
            if cache is not None:
                kernels.deserialize(cache)  # refused when library, driver or device changed; it starts empty then
            self._config.set_runtime_cache(kernels)
        return self.engine.create_execution_context(self._config)

    def runtime_cache(self) -> bytes | None:
        """What the runtime has compiled for this device so far; None where the library keeps no such thing."""
        if self._config is None or not self.binding.rtx:
            return None
        kernels = self._config.get_runtime_cache()
        return None if kernels is None else bytes(kernels.serialize())

    def step(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """One call. Raises HOST_INPUT_INVALID outside the profiles, HOST_STEP_FAILED; lets torch's out-of-memory error through.

        The output is overwritten by the next step."""
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        with gpu.on(self.stream):
            if shapes != self._shapes:
                self._arrange(shapes)
            for name, value in inputs.items():
                self._buffers[name].copy_(value)
            done = self._context.execute_async_v3(gpu.handle(self.stream))
        gpu.synchronize(self.stream)
        if not done:
            self._shapes = {}
            raise HostFailure(
                "HOST_STEP_FAILED",
                f"{self.binding.name} {self.binding.version} failed to run the step: {self.binding.said()}. The weights are unchanged.",
            )
        return self._buffers[self.output]

    def _arrange(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Profile, shapes, scratch and buffers for these inputs."""
        self._shapes = {}
        index = choose(self._profiles, self._ports, shapes)
        expect(index is not None, "HOST_INPUT_INVALID", f"the engine was built for {limits(self._profiles)}; a larger picture needs the torch host (NEEDS_RECOMPILE)",
               shapes={name: list(shape) for name, shape in shapes.items()})  # fmt: skip
        context = self._context
        good = index == self._profile or context.set_optimization_profile_async(index, gpu.handle(self.stream))
        good = good and all(context.set_input_shape(name, shape) for name, shape in shapes.items())
        expect(good, "HOST_STEP_FAILED", f"{self.binding.name} refuses these sizes: {self.binding.said()}")
        self._profile = index
        self._take_scratch(int(context.update_device_memory_size_for_shapes()))
        wanted = {**shapes, self.output: tuple(context.get_tensor_shape(self.output))}
        for name, shape in wanted.items():
            have = self._buffers.get(name)
            if have is None or tuple(have.shape) != shape:
                self._buffers[name] = torch.empty(shape, dtype=self.dtypes[name], device=self._device)
            expect(context.set_tensor_address(name, self._buffers[name].data_ptr()), "HOST_STEP_FAILED", f"{name}: {self.binding.said()}")
        self._shapes = dict(shapes)

    def _take_scratch(self, nbytes: int) -> None:
        nbytes = max(nbytes, 256)
        have = 0 if self._scratch is None else self._scratch.numel()
        if have < nbytes or have > nbytes * KEEP_FACTOR:
            self._scratch = None  # the old block first, or both are held at once
            self._scratch = torch.empty(nbytes, dtype=torch.uint8, device=self._device)
        assert self._scratch is not None
        self._context.set_device_memory(self._scratch.data_ptr(), self._scratch.numel())

    @property
    def scratch_bytes(self) -> int:
        return 0 if self._scratch is None else self._scratch.numel()

    def release(self) -> None:
        """Gives back weights, scratch and buffers, in the order that the library asks for."""
        self._context = self._config = None
        self.engine = self._runtime = None
        self._buffers, self._scratch, self._shapes = {}, None, {}
