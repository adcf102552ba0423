"""Networks and their building: keeps the ONNX graph, checks what the library checks."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import device
import onnx

from .enums import OF_ONNX, BuilderFlag, ComputeCapability, ILogger, fail
from .plan import Header, pack, scratch_bytes

REFIT_MODES = {BuilderFlag.REFIT_INDIVIDUAL: "individual", BuilderFlag.REFIT: "all", BuilderFlag.REFIT_IDENTICAL: "identical"}


class INetworkDefinition:
    def __init__(self) -> None:
        self.model: Any = None
        self.addresses: dict[str, tuple[int, int]] = {}
        self.marked: set[str] = set()

    @property
    def num_layers(self) -> int:
        return 0 if self.model is None else len(self.model.graph.node)

    def mark_weights_refittable(self, name: str) -> bool:
        known = name in self.addresses
        if known:
            self.marked.add(name)
        return known


class _ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._model: Any = None
        self._given: dict[str, tuple[int, int]] = {}
        self._errors: list[_ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def _refuse(self, text: str) -> bool:
        self._errors.append(_ParserError(text))
        fail(self._logger, text)
        return False

    def load_model_proto(self, model: bytes, path: str | None = None) -> bool:
        self._model = onnx.load_from_string(model)
        return True

    def load_initializer(self, name: str, data: int, size: int) -> bool:
        tensor = next((t for t in self._model.graph.initializer if t.name == name), None) if self._model is not None else None
        if tensor is None or size != math.prod(tensor.dims) * OF_ONNX[tensor.data_type].itemsize:
            return self._refuse(f"initializer {name}: not in the model, or of another size")
        self._given[name] = (data, size)
        return True

    def parse_model_proto(self) -> bool:
        lacking = [t.name for t in self._model.graph.initializer if t.name not in self._given]
        if lacking:
            return self._refuse(f"no data for the initializer {lacking[0]}")
        sizes: dict[int, int] = {}
        for address, size in self._given.values():
            # The real library tells weights apart by their address.
            if sizes.setdefault(address, size) != size:
                return self._refuse("setWeightsName: weights of same values but of different counts are used in the network")
        self._network.model, self._network.addresses = self._model, self._given
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        self.shapes[input] = [list(min), list(opt), list(max)]


class IBuilderConfig:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self.flags_set: set[BuilderFlag] = {BuilderFlag.TF32}
        self.profiles: list[IOptimizationProfile] = []
        self.num_compute_capabilities = 0
        self.targets: dict[int, ComputeCapability] = {}
        self.scratch = device.TOTAL_BYTES

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags_set.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags_set.discard(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.scratch = pool_size

    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
        if index >= self.num_compute_capabilities or f"refuse-{compute_capability.name}" in device.FAULTS:
            return False
        self.targets[index] = compute_capability
        return True

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        for name, (low, best, high) in profile.shapes.items():
            if not all(a <= b <= c for a, b, c in zip(low, best, high)):
                fail(self._logger, f"profile: {name}: expected min <= opt <= max")
                return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        if network.model is None or not network.model.graph.output:
            return self._none("Network must have at least one output")
        if "build-out-of-memory" in device.FAULTS:
            return self._none("Error Code 2: OutOfMemory (Requested size was 4294967296 bytes.)")
        dynamic = [v for v in network.model.graph.input if any(d.dim_param for d in v.type.tensor_type.shape.dim)]
        for value in dynamic:
            if not config.profiles or any(value.name not in profile.shapes for profile in config.profiles):
                return self._none(f"{value.name}: dynamic input without an optimization profile")
        needed = max(scratch_bytes(profile.shapes["sample"][2]) for profile in config.profiles)
        if needed > config.scratch:
            self._logger.log(
                ILogger.VERBOSE, f"(foreignNode) [pass.cpp:2417: run_passes] Exceeded mem budget of {config.scratch}. Need {needed}"
            )
            return self._none(f"Error Code 2: OutOfMemory (Requested size was {config.scratch} bytes.)")
        refit = next((mode for flag, mode in REFIT_MODES.items() if flag in config.flags_set), "")
        stripped = BuilderFlag.STRIP_PLAN in config.flags_set
        if stripped and not refit:
            refit = "identical"
        named = [capability for capability in config.targets.values() if capability != ComputeCapability.CURRENT]
        if refit and named and "refit-for-this-device-only" in device.FAULTS:
            return self._none("Error Code 1: Myelin (MyelinCheckException: nvrtc_compile.cpp:1208: CHECK(false) failed.)")
        names = list(network.addresses)
        refittable = sorted(network.marked) if refit == "individual" else names if refit else []
        kept = [name for name in names if not (stripped and name in refittable)]
        targets = [f"{c.name[2:-1]}.{c.name[-1]}" for c in named] or [".".join(map(str, device.CAPABILITY))]
        header = Header(device.VERSION, targets, refit, refittable, stripped, [(name, network.addresses[name][1]) for name in kept],
                        [profile.shapes for profile in config.profiles])  # fmt: skip
        data = b"".join(ctypes.string_at(*network.addresses[name]) for name in kept)
        return pack(header, network.model.SerializeToString(), data)

    def _none(self, text: str) -> None:
        fail(self._logger, f"IBuilder::buildSerializedNetwork: {text}")
