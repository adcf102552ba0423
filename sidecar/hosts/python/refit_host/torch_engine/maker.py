"""Builds torch engines: weights alone, or with the family's diffusers module bound to them."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING, Mapping, cast, get_args

import torch

from ..failure import HostFailure
from ..files.checkpoint import CheckpointReader, CheckpointSource
from ..files.dtypes import TORCH_OF_WIRE
from ..host.bundle import check_bundle, read_bundle
from ..host.engine import Engine, check_shapes
from ..quant.base import file_codes, rotations
from ..quant.choose import plain_matrices
from ..quant.formats import FLOAT, FORMATS, Format
from ..quant.weights import QuantWeights
from ..weights.base import Place
from ..weights.layout import Layout
from ..weights.memory import choose_place, device_budget
from ..weights.refit import Weights
from ..weights.streamed import StreamedWeights
from ..wire.messages import LoadParams
from ..wire.server import Call
from .warm import WarmStart

if TYPE_CHECKING:
    from ..host.host import Host

log = logging.getLogger("refit_host")
# What a step needs besides weights, before the first one has shown it: SDXL at 1024 px, batch 2, with room to spare.
ACTIVATION_BYTES = 3 << 30


class TorchMaker:
    kind = "torch"
    precisions = ("f32", "f16", "bf16", *FORMATS)

    def __init__(self, device: torch.device, importing: AbstractContextManager = nullcontext()) -> None:  # noqa: B008
        """`importing`: held while the model library is imported; nothing is made before."""
        self._warm = WarmStart(device, importing)

    def versions(self) -> dict[str, str]:
        return {name: metadata.version(name) for name in ("diffusers", "triton") if _installed(name)}

    def make(self, params: LoadParams, reader: CheckpointReader, host: "Host", call: Call) -> Engine:
        """Reads the checkpoint into a new engine. Raises HostFailure; nothing is left behind then."""
        began = time.perf_counter()
        self._warm.imported()
        precision = params.weight_dtype
        form = FORMATS.get(precision)
        dtype = FLOAT if form is not None else TORCH_OF_WIRE[precision]
        shapes = {name: source.shape for name, source in params.checkpoint.parameters.items()}
        if params.graph is None and not params.steps:
            assert params.parameters is not None
            weights = _plain(params.parameters, dtype, params.checkpoint, form, host)
            fill(weights, params, reader, host, call)
            return Engine(weights, None, frozenset(), host.images)
        from ..fused import operations
        from ..models.registry import spec_of
        from ..quant.report import probe_inputs, report
        from .attention import prefer_fastest
        from .model import TorchModel
        from .placing import place_quantised, place_weights
        from .table import bundle_of

        if params.graph is None:
            assert params.parameters is not None
            wanted = params.parameters
            spec = spec_of(wanted)
            bundle = bundle_of(spec, wanted)
        else:
            bundle = read_bundle(params.graph[0])
            bundle.file(params.graph[1])
            check_bundle(bundle, shapes)
            wanted = {row.parameter: shapes[row.parameter] for row in bundle.rows}
            spec = spec_of(wanted)
        planned = time.perf_counter()
        # Quantised weights are merged in f32.
        self._warm.merges(torch.float32 if form is not None else dtype)
        placed = (
            place_quantised(spec, wanted, precision, params.checkpoint, host)
            if form is not None
            else place_weights(spec, wanted, dtype, host, params.engine)
        )
        fill(placed.weights, params, reader, host, call)
        filled = time.perf_counter()
        self._warm.ready()
        prefer_fastest(spec.family, spec.config, host.device)
        host.session_loads += 1
        log.info(
            "loaded: modules %.1f s, weights %.1f s, then waited %.1f s for libraries",
            planned - began,
            filled - planned,
            time.perf_counter() - filled,
        )
        model = TorchModel(spec, placed, bundle, dtype, host, lambda: host.tell_serving(params.engine))
        if spec.fuse is not None and placed.compiles:
            model.use_fused(operations(host.device), probe_inputs(bundle.family, bundle.inputs, host.device))
        engine = Engine(placed.weights, model, frozenset(), host.images)
        if placed.quantised is not None:
            engine.quantised = report(placed.quantised, bundle.family, bundle.inputs)
        return engine


def _plain(
    shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, source: CheckpointSource, form: Format | None, host: "Host"
) -> Weights:
    """Weights without a module."""
    if form is None:
        return Weights(Layout.build(shapes, dtype), host.device, host.ring, merge=host.options.merge)
    matrices = plain_matrices(shapes, form, frozenset(file_codes(form, source)))
    layout = Layout.build(shapes, dtype, rotated={name: turn for name, turn in rotations(form, source).items() if name in matrices})
    return QuantWeights(layout, matrices, form, host.device, host.ring, merge=host.options.merge, rounding=host.options.rounding)


def fill(weights: Weights, params: LoadParams, reader: CheckpointReader, host: "Host", call: Call) -> None:
    """First values of an engine, with the base where the budget allows it."""
    check_shapes(params.checkpoint, weights)
    place: str = host.options.base
    if isinstance(weights, StreamedWeights):
        place = "pinned"
    if place == "auto":
        budget = device_budget(host.device, host.options.vram_cap_bytes)
        activations = ACTIVATION_BYTES if host.device.type == "cuda" else 0
        place = choose_place(budget, weights.layout.nbytes, activations, live_is_allocated=True)
    if place not in get_args(Place):
        raise HostFailure("HOST_INTERNAL", f"unknown place {place}")

    def progress(done: int, total: int) -> None:
        call.notify("progress", {"id": call.id, "stage": "weights", "done": done, "total": total})

    weights.load(cast(Place, place), reader, cancelled=call.cancelled, progress=progress)
    reader.check_unchanged()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
