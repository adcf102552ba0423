"""The whole host process on Flux dev of real size: load, steps with the fused blocks, swaps, the way back, bf16 and quantised.

Options: `precisions` (["bf16", "fp8"]), `args` (more arguments of the host), `every` (checksums of each n-th parameter; 9).
"""

from __future__ import annotations

import shutil
from typing import Iterator

import torch
from refit_graphs.families import plan
from refit_graphs.table import describe, to_json

from .. import data
from ..context import Context
from ..flux import Flux
from ..host_process import HostProcess
from ..setting import ADAPTERS, Setting
from . import host as piece


class FluxSetting(Setting):
    """What `host` does on SDXL, on Flux: `dtype` is the engine's."""

    def __init__(self, context: Context, flux: Flux, dtype: str, options: dict) -> None:
        folder = context.folder / "flux-host"
        self.graph = folder / "graph"
        self.graph.mkdir(parents=True, exist_ok=True)
        self.shapes, self.dtype = flux.shapes, dtype
        # The torch host takes the table alone; no ONNX file is needed.
        table = describe(plan(dict(flux.shapes)), dict(flux.shapes), "flux", {"fp16": "none.onnx", "fp32": "none.onnx"})
        (self.graph / "graph.json").write_text(to_json(table))
        self.names, self.touched = list(dict.fromkeys(row["parameter"] for row in table["refitMap"])), data.linear_layers(flux.shapes)
        self.checkpoints = [data.checkpoint_record(folder, flux.shapes, context.device, 0)]
        self.adapters = [(data.adapter(folder, flux.shapes, context.device, seed, 16), f"{seed:064x}") for seed in range(ADAPTERS)]
        self.inputs = {name: value.cpu() for name, value in flux.inputs().items()}
        self.second, self.sampled = None, self.names[:: options.get("every", 9)]
        self.store = folder / "host-store"
        self.arguments = ["--device", context.device.type, "--store", str(self.store), *options.get("args", [])]


def run(context: Context, options: dict) -> Iterator[dict]:
    torch.set_num_threads(1)
    cuda = context.device.type == "cuda"
    for precision in options.get("precisions", ["bf16", "fp8"]):
        flux = Flux(context)
        setting = FluxSetting(context, flux, precision, options)
        del flux
        if cuda:
            torch.cuda.empty_cache()
        shutil.rmtree(setting.store, ignore_errors=True)
        label = {"precision": precision}
        host: HostProcess | None = None
        try:
            host, engine, rows = piece._start(setting, "first, empty store")
            yield from ({**row, **label} for row in rows)
            yield {"what": "quantised", **label, "row": engine.loaded.get("quantised")}
            yield from ({**row, **label} for row in piece._settle(setting.inputs, engine, 60, "first, empty store"))
            yield from ({**row, **label} for row in piece._refits(setting, engine, min(context.repeats, 10) if cuda else 2))
            yield {**piece._memory(engine, "after steps and swaps"), **label}
            yield {"what": "log", **label, "lines": host.log[-12:]}
        except Exception as error:  # one precision that fails must not hide the other
            yield {"what": "flux host", **label, "failed": f"{type(error).__name__}: {error}"[:900]}
        finally:
            if host is not None:
                host.close()
