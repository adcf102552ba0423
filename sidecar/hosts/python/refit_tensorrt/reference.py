"""What PyTorch computes for a few random inputs, and how fast: the yardstick of a new engine. Its weights are gone when it returns."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import torch
from refit_graphs.descriptions import typical
from refit_host.distance import relative_error
from refit_host.files.checkpoint import CheckpointReader
from refit_host.host.bundle import Bundle
from refit_host.torch_engine.maker import TorchMaker
from refit_host.weights.merge import triton_works
from refit_host.wire.messages import LoadParams
from refit_host.wire.server import Call
from torch import Tensor

from .profiles import Profile

if TYPE_CHECKING:
    from refit_host.host.host import Host

# Time that torch.compile gets to finish in the background before the yardstick counts without it.
COMPILE_SECONDS = 180.0
TIMED_STEPS = 7
SEED = 20


@dataclass(frozen=True)
class Reference:
    """`outputs`: on the host, one per sample, values of the base checkpoint. `ms`: median of a step on the first sample."""

    samples: tuple[dict[str, Tensor], ...]
    outputs: tuple[Tensor, ...]
    ms: float
    tier: str


def _value(port: Mapping[str, Any], shape: Sequence[int], family: str, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if port["name"] == "timestep":
        number = typical(family, "timestep")
        return torch.full(tuple(shape), 500.0 if number is None else number)
    if port["name"] == "guidance":
        return torch.full(tuple(shape), 3.5)
    return torch.randn(tuple(shape), generator=generator).to(dtype)


def samples_for(bundle: Bundle, profile: Profile, dtype: torch.dtype) -> tuple[dict[str, Tensor], ...]:
    """Inputs at the profile's best sizes, and one smaller picture that is not square, batch 1."""
    generator = torch.Generator().manual_seed(SEED)
    side = profile.axes["height"][1]
    smaller = replace(profile, axes={**profile.axes, "batch": (1, 1, 1), "height": (side // 2,) * 3, "width": (side // 4 * 3,) * 3})
    return tuple(
        {port["name"]: _value(port, chosen.ranges(port)[1], bundle.family, dtype, generator) for port in bundle.inputs}
        for chosen in (profile, smaller)
    )


def timed(step: Any, sample: Mapping[str, Tensor]) -> float:
    """Median ms of a step that ends with its output on the host, as the host protocol needs it."""
    times = []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        step(dict(sample)).cpu()
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[len(times) // 2]


def torch_reference(
    params: LoadParams, reader: CheckpointReader, bundle: Bundle, samples: Sequence[dict[str, Tensor]], host: "Host", call: Call
) -> Reference:
    """Runs the torch host's own engine on the checkpoint without adapters. Raises what it raises."""
    engine = TorchMaker(host.device).make(replace(params, stack=()), reader, host, call)
    model = engine.model
    assert model is not None
    output = bundle.outputs[0]["name"]

    def step(inputs: dict[str, Tensor]) -> Tensor:
        return model.step(inputs)[output]

    try:
        outputs = tuple(step(dict(sample)).float().cpu().clone() for sample in samples)
        deadline = time.monotonic() + COMPILE_SECONDS
        compiles = host.device.type == "cuda" and host.options.tier in ("auto", "compiled") and triton_works(host.device)
        while compiles and "compiled" not in model.tier and time.monotonic() < deadline:
            call.check()
            step(dict(samples[0]))
            time.sleep(0.5)
        return Reference(tuple(samples), outputs, timed(step, samples[0]), model.tier)
    finally:
        model.release()
        del engine
        if host.device.type == "cuda":
            torch.cuda.empty_cache()


def difference(got: Tensor, expected: Tensor) -> float:
    """Relative L2 distance; infinite when a value is not finite."""
    distance = relative_error(got.cpu(), expected)
    return distance if distance == distance else float("inf")
