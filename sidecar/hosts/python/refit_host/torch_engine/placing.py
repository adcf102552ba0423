"""Where an engine's weights go on this device: all of them on it, or as many as fit and the rest streamed from host memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Mapping

import torch

from ..failure import HostFailure, expect
from ..files.checkpoint import CheckpointSource
from ..models.bind import bind, layout_of
from ..models.spec import ModelSpec
from ..models.units import units_of
from ..quant.placing import QuantEngine
from ..weights.host_memory import free_bytes
from ..weights.memory import device_budget, most_bytes
from ..weights.merge import triton_works
from ..weights.refit import Weights
from ..weights.split import choose_streamed, parts_of, split_of
from ..weights.streamed import StreamedWeights
from .block_stream import BlockStream

if TYPE_CHECKING:
    from ..host.host import Host

# What a step needs besides weights when room is short: SDXL at 1024 px takes 0.4 GB (batch 2, eager), a CUDA graph as much again.
STEP_BYTES = 1 << 30


@dataclass(frozen=True)
class Placed:
    """`make` gives another module over the same weights. `compiles`: compiled code may run on them. `precision`: as compiled code
    depends on it. `quantised`: what is known of a quantised engine. `variant`: which modules step on the present weights, 0 those of `make`; any other
    number those that `make_variant` gives then."""

    weights: Weights
    make: Callable[[], torch.nn.Module]
    compiles: bool
    precision: str
    quantised: QuantEngine | None = None
    variant: Callable[[], int] = lambda: 0
    make_variant: Callable[[], torch.nn.Module] | None = None


def place_quantised(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]], name: str, source: CheckpointSource, host: "Host") -> Placed:
    """Weights in a number format without values yet, laid out for the checkpoint `source`. Raises HOST_OUT_OF_MEMORY, HOST_PRECISION_UNSUPPORTED."""
    engine = QuantEngine(
        spec, shapes, name, source, host.device, host.ring, channels_last=_compiles(host), room=_room(host), merge=host.options.merge,
        rounding=host.options.rounding,
    )  # fmt: skip
    return Placed(
        engine.weights,
        engine.make,
        _compiles(host),
        f"{name} {engine.way}",
        engine,
        lambda: engine.weights.branches.variant,
        engine.make_branched,
    )


def _compiles(host: "Host") -> bool:
    return host.device.type == "cuda" and host.options.tier in ("auto", "compiled") and triton_works(host.device)


def place_weights(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, host: "Host", engine: str) -> Placed:
    """Weights without values yet. Raises HOST_OUT_OF_MEMORY: with `streams` when the UI could make room for all weights (the
    next load of that engine streams what does not fit, the one after it asks again), always when nothing helps."""
    # Compiled blocks want channels last; CUDA graphs of uncompiled ones are 4 % faster without (H100, SDXL).
    compiles = _compiles(host)
    layout = layout_of(spec, shapes, dtype, channels_last=compiles)
    room = _room(host)
    if layout.nbytes <= room:
        host.asked_for_room.discard(engine)
        weights = Weights(layout, host.device, host.ring, merge=host.options.merge)
        return Placed(weights, lambda: bind(spec.build(), spec, layout, weights.live), compiles, str(dtype))
    limit = host.options.weights_bytes
    if (
        limit is None
        and layout.nbytes + STEP_BYTES <= most_bytes(host.device, host.options.vram_cap_bytes)
        and engine not in host.asked_for_room
    ):
        host.asked_for_room.add(engine)
        wanted, free = layout.nbytes + STEP_BYTES, room + STEP_BYTES
        raise HostFailure(
            "HOST_OUT_OF_MEMORY", f"{wanted / 2**30:.1f} GiB do not fit beside what other programs hold on the device, {free / 2**30:.1f} GiB are free: let the UI "
            "unload its models, or load again to stream weights from host memory", {"bytes": wanted, "freeBytes": free, "streams": True},
        )  # fmt: skip
    host.asked_for_room.discard(engine)
    return _streamed(spec, shapes, dtype, host, room)


def _room(host: "Host") -> int:
    """Device memory that weights may take."""
    free = device_budget(host.device, host.options.vram_cap_bytes).device_free - (STEP_BYTES if host.device.type == "cuda" else 0)
    return free if host.options.weights_bytes is None else min(free, host.options.weights_bytes)


def _streamed(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, host: "Host", room: int) -> Placed:
    units = units_of(spec)
    sizes = {slot.name: slot.nbytes for slot in layout_of(spec, shapes, dtype, channels_last=False).slots}
    chosen = choose_streamed(units, sizes, room)
    layout = layout_of(spec, shapes, dtype, channels_last=False, part=parts_of(chosen))
    split = split_of(layout, chosen)
    needed = 2 * layout.nbytes - split.near_bytes
    expect(free_bytes() >= needed, "HOST_OUT_OF_MEMORY", "the weights fit neither on the device nor, streamed, in host memory: close programs, or use a smaller "
           "precision or checkpoint", bytes=needed, freeBytes=free_bytes())  # fmt: skip
    weights = StreamedWeights(layout, split, host.device, host.ring, merge=host.options.merge)

    def make() -> torch.nn.Module:
        return BlockStream(weights).attach(bind(spec.build(), spec, weights.placed, weights.container))

    return Placed(weights, make, False, str(dtype))
