"""Builds engines. In: a graph bundle's variant, profiles, a compute capability. Out: a serialised engine, without weights unless asked.

Exactly the graph's parameters are marked refittable, so that constants of the graph may still be folded; whatever the library
cannot mark is named, and nothing is built then: a parameter that no refit can reach would stay zero.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, Mapping, Sequence

import torch
from refit_host.failure import HostFailure, expect
from refit_host.host.bundle import Bundle

from .binding import Binding, Capability
from .network import Nowhere, Source, parse, read_source
from .profiles import Profile, limits

# `stripped`: no weights in the file, every parameter refittable. `embedded`: weights in the file, refittable. `fixed`: never refitted.
WeightsMode = Literal["stripped", "embedded", "fixed"]


@dataclass(frozen=True)
class Built:
    """`plan`: the serialised engine. `parse_seconds`: the part of `seconds` that reading the graph took. `layers`: of the network it was made from."""

    plan: bytes
    seconds: float
    parse_seconds: float
    layers: int
    weights: int


def ports_of(bundle: Bundle, residuals: bool) -> tuple[dict[str, Any], ...]:
    """Inputs of a step, as graph.json lists them."""
    return (*bundle.inputs, *bundle.residuals) if residuals else bundle.inputs


def _mark(binding: Binding, network: Any, source: Source) -> None:
    lost = [weight.name for weight in source.weights if not network.mark_weights_refittable(weight.name)]
    if lost:
        raise HostFailure("HOST_NOT_REFITTABLE", f"{binding.name} {binding.version} cannot keep {len(lost)} parameters refittable, the first is {lost[0]} "
                          "(NEEDS_RECOMPILE); use the torch host", {"parameter": lost[0], "parameters": lost[:20]})  # fmt: skip


def _config(binding: Binding, builder: Any, mode: WeightsMode, dtype: torch.dtype, scratch_bytes: int) -> Any:
    trt, config = binding.trt, builder.create_builder_config()
    if mode != "fixed":
        config.set_flag(trt.BuilderFlag.REFIT_INDIVIDUAL)
    if mode == "stripped":
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if dtype == torch.float32:
        config.clear_flag(trt.BuilderFlag.TF32)  # f32 engines are for comparisons
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, scratch_bytes)
    return config


def _aim(binding: Binding, config: Any, target: Any, capability: Capability) -> None:
    config.num_compute_capabilities = 1
    accepted = config.set_compute_capability(target, 0)
    expect(accepted, "HOST_DEVICE_UNSUPPORTED", f"{binding.name} {binding.version} refuses to build for compute capability {capability[0]}.{capability[1]}; "
           "use the torch host", capability=f"{capability[0]}.{capability[1]}")  # fmt: skip


def _serialised(binding: Binding, builder: Any, network: Any, config: Any, capability: Capability, at_hand: bool) -> Any:
    """The engine for `capability`; what cannot be built for it by name is built for the device at hand, where that is the one meant.

    By name the library compiles as if no device were there. 1.7.1 can do that for a refittable engine where there is a driver (H100, for 8.9);
    a release that cannot gets a second chance."""
    named, here = binding.target(capability), binding.this_device if at_hand else None
    if named is not None:
        _aim(binding, config, named, capability)
    plan = builder.build_serialized_network(network, config)
    if plan is None and named is not None and here is not None and binding.lacked() is None:
        _aim(binding, config, here, capability)
        plan = builder.build_serialized_network(network, config)
    return plan


def _network(binding: Binding, builder: Any) -> Any:
    flags = binding.trt.NetworkDefinitionCreationFlag
    # Later releases are always strongly typed and keep the flag for old callers.
    return builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)


def build(
    binding: Binding, bundle: Bundle, variant: str, profiles: Sequence[Profile], capability: Capability, *, scratch_bytes: int, at_hand: bool,
    mode: WeightsMode = "stripped", values: Mapping[str, int] | None = None,
) -> Built:  # fmt: skip
    """One engine. `scratch_bytes`: what a step of the largest size may take. `at_hand`: the capability is that of the device here.
    `values`: host addresses of the weights, for `embedded` and `fixed`. Raises HOST_GRAPH_INVALID, HOST_BUILD_FAILED,
    HOST_NOT_REFITTABLE, HOST_DEVICE_UNSUPPORTED, HOST_OUT_OF_MEMORY."""
    began = time.perf_counter()
    expect((values is None) == (mode == "stripped"), "HOST_INTERNAL", "weights come with an embedded or fixed engine, and only with one")
    for row in bundle.rows:
        expect(row.refittable or mode != "stripped", "HOST_NOT_REFITTABLE", f"the refit map says that {row.parameter} cannot be changed (NEEDS_RECOMPILE); "
               "export the graph again", parameter=row.parameter)  # fmt: skip
    source = read_source(bundle.file(variant), bundle.rows)
    binding.complaints.clear()
    builder = binding.trt.Builder(binding.logger)
    network = _network(binding, builder)
    nowhere = values if values is not None else Nowhere(source.weights)
    parser = parse(binding, network, source, nowhere)
    if mode != "fixed":
        _mark(binding, network, source)
    parsed = time.perf_counter() - began
    dtypes = {weight.dtype for weight in source.weights}
    config = _config(binding, builder, mode, torch.float32 if dtypes == {torch.float32} else torch.float16, scratch_bytes)
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        for port in ports_of(bundle, variant.startswith("residuals-")):
            shapes.set_shape(port["name"], *profile.ranges(port))
        expect(
            config.add_optimization_profile(shapes) >= 0,
            "HOST_BUILD_FAILED",
            f"the library refuses the profile {profile.text}: {binding.said()}",
        )
    plan = _serialised(binding, builder, network, config, capability, at_hand)
    if plan is None:
        raise _failed(binding, capability, profiles)
    built = Built(bytes(plan), time.perf_counter() - began, parsed, network.num_layers, len(source.weights))
    del parser, nowhere
    return built


def _failed(binding: Binding, capability: Capability, profiles: Sequence[Profile]) -> HostFailure:
    lacked = binding.lacked()
    if lacked is not None:
        allowed, needed = lacked
        return HostFailure("HOST_OUT_OF_MEMORY", f"an engine for {limits(profiles)} needs {needed / 2**30:.1f} GiB beside its weights, {allowed / 2**30:.1f} GiB are there: "
                           "raise --vram-mib, or use the torch host or a smaller precision", {"bytes": needed, "freeBytes": allowed, "scratch": True})  # fmt: skip
    wanted = binding.refused_memory()
    said = binding.said()
    if wanted is not None:
        return HostFailure(
            "HOST_OUT_OF_MEMORY",
            "the device has too little free memory to build the engine: let the UI unload its models and try again",
            {"bytes": wanted},
        )
    return HostFailure("HOST_BUILD_FAILED", f"{binding.name} {binding.version} built no engine for compute capability {capability[0]}.{capability[1]}: {said}. "
                       "The torch host serves without it.", {"capability": f"{capability[0]}.{capability[1]}"})  # fmt: skip
