"""Builds tensorrt engines: the file from the store or a new one, weights into it, and its first outputs against PyTorch's."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from refit_host.engine_store import EngineStore
from refit_host.failure import expect
from refit_host.files.checkpoint import CheckpointReader
from refit_host.files.dtypes import TORCH_OF_WIRE
from refit_host.host.bundle import check_bundle, read_bundle
from refit_host.host.engine import Engine, check_shapes
from refit_host.host.options import Options
from refit_host.weights.layout import Layout
from refit_host.weights.memory import choose_place, device_budget
from refit_host.wire.messages import LoadParams
from refit_host.wire.server import Call

from .making import Making
from .sink import MemorySink
from .store import PlanStore
from .weights import EngineWeights

if TYPE_CHECKING:
    from refit_host.host.host import Host

VARIANTS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
# What a step needs besides weights: scratch is sized by the actual shape; this is for SDXL at 1024 px, batch 2.
ACTIVATION_BYTES = 2 << 30


class TensorRTMaker:
    kind = "tensorrt"
    precisions = tuple(VARIANTS)

    def __init__(self, options: Options) -> None:
        self._store = PlanStore(EngineStore.of(options))

    def versions(self) -> dict[str, str]:
        found = {}
        for name in ("tensorrt_rtx", "tensorrt_rtx_cu12", "tensorrt_rtx_cu13", "tensorrt", "diffusers", "onnx"):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return found

    def make(self, params: LoadParams, reader: CheckpointReader, host: "Host", call: Call) -> Engine:
        """Reads the checkpoint into a new engine. Raises HostFailure; nothing is left behind then."""
        expect(params.weight_dtype in VARIANTS, "HOST_PRECISION_UNSUPPORTED", f"this host holds no {params.weight_dtype} weights; the torch host does",
               weightDtype=params.weight_dtype)  # fmt: skip
        dtype = TORCH_OF_WIRE[params.weight_dtype]
        if params.graph is None:
            assert params.parameters is not None
            weights = EngineWeights(Layout.build(params.parameters, dtype), host.device, host.ring, merge=host.options.merge)
            self._fill(weights, params, reader, host, call, host.options.base)
            weights.attach(MemorySink(weights.layout, host.device))
            return Engine(weights, None, frozenset(), host.images)
        bundle = read_bundle(params.graph[0])
        bundle.file(params.graph[1])
        variant = VARIANTS[params.weight_dtype]
        expect(variant in bundle.variants, "HOST_PRECISION_UNSUPPORTED",
               f"a strongly typed engine needs the graph in {variant}; this one has {', '.join(bundle.variants)}", variant=variant)  # fmt: skip
        check_bundle(bundle, {name: source.shape for name, source in params.checkpoint.parameters.items()})
        fill = lambda weights, place: self._fill(weights, params, reader, host, call, place)  # noqa: E731
        return Making(self._store, params, reader, host, call, bundle, variant, dtype, fill).run()

    def _fill(self, weights: EngineWeights, params: LoadParams, reader: CheckpointReader, host: "Host", call: Call, place: str) -> None:
        """The base, where the budget allows it beside the engine's own copy of the weights."""
        check_shapes(params.checkpoint, weights)
        if place == "auto":
            # The engine's copy lies in memory of the library, which PyTorch does not count.
            held, cap = weights.layout.nbytes if params.graph is not None else 0, host.options.vram_cap_bytes
            budget = device_budget(host.device, None if cap is None else cap - held)
            activations = ACTIVATION_BYTES if host.device.type == "cuda" else 0
            place = choose_place(budget, weights.layout.nbytes, activations, live_is_allocated=params.graph is not None)

        def progress(done: int, total: int) -> None:
            call.notify("progress", {"id": call.id, "stage": "weights", "done": done, "total": total})

        weights.load(place, reader, cancelled=call.cancelled, progress=progress)  # type: ignore[arg-type]
        reader.check_unchanged()
