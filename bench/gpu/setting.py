"""What the pieces give a whole host process: a shipped graph, random checkpoints and adapters of its structure, the inputs of a step.

Options: `graph` (a folder of sidecar/graphs; SDXL, or the demo's model with --tiny), `size` and `second_size` [batch, height, width] in pixels, `args` (more arguments
of the host), `every` (checksums of each n-th parameter alone: hashing all of SDXL takes seconds).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

import torch

from . import data
from .context import ROOT, Context
from .host_process import HostEngine, HostProcess

# More than the host keeps on the device (refit_host/weights/factors.py): taken in turn, each is uploaded anew.
ADAPTERS = 8
# The demo's model steps on this many latent rows and columns, whatever size is asked for.
TINY_SIDE = 16


class Setting:
    """`inputs`: of one step; `touched`: the parameters that every adapter changes; `sampled`: those whose checksums are compared."""

    def __init__(self, context: Context, options: dict) -> None:
        self.tiny = context.tiny
        name = "demo" if context.tiny else options.get("graph", "sdxl")
        self.graph = ROOT / "sidecar" / "graphs" / name
        table = json.loads((self.graph / "graph.json").read_text())
        shapes = {row["parameter"]: tuple(row["shape"]) for row in table["refitMap"]}
        folder = context.folder if name == "sdxl" else context.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        self.names, self.shapes = list(shapes), shapes
        self.touched = data.linear_layers(shapes)
        self.checkpoints = [data.checkpoint_record(folder, shapes, context.device, seed) for seed in (0, 1)]
        self.adapters = [(data.adapter(folder, shapes, context.device, seed, 16), f"{seed:064x}") for seed in range(ADAPTERS)]
        self.dtype = "f16" if context.device.type == "cuda" else "f32"
        self._ports, self._residuals = table["inputs"], table["residuals"]
        self._size = options.get("size", (2, 1024, 1024))
        self.inputs = self._step_inputs(self._size)
        second = options.get("second_size")
        self.second = None if second is None else self._step_inputs(second)
        self.sampled = self.names[:: options.get("every", 1)]
        self.store = context.folder / "host-store"
        self.arguments = ["--device", context.device.type, "--store", str(self.store), *options.get("args", [])]

    def _values(self, ports: Sequence[dict[str, Any]], size: Sequence[int], seed: int) -> dict[str, torch.Tensor]:
        batch, height, width = size
        height, width = (TINY_SIDE, TINY_SIDE) if self.tiny else (height // 8, width // 8)
        sizes = {"batch": batch, "tokens": 77, "height": height, "width": width}
        for part in (2, 4, 8):
            sizes |= {f"height_{part}": -(-height // part), f"width_{part}": -(-width // part)}
        make = torch.Generator().manual_seed(seed)
        return {port["name"]: torch.randn([sizes.get(axis, axis) for axis in port["shape"]], generator=make) for port in ports}

    def _step_inputs(self, size: Sequence[int]) -> dict[str, torch.Tensor]:
        return {
            name: torch.full(value.shape, 501.0) if name == "timestep" else value.to(self.float_type)
            for name, value in self._values(self._ports, size, 0).items()
        }

    def residuals(self, scale: float) -> dict[str, torch.Tensor]:
        """Random ControlNet residuals of the graph's table, in its order: the skip connections' and then the middle's."""
        return {name: (value * scale).to(self.float_type) for name, value in self._values(self._residuals, self._size, 1).items()}

    @property
    def float_type(self) -> torch.dtype:
        return torch.float16 if self.dtype == "f16" else torch.float32

    def page_cache(self) -> None:
        """Files lie in memory, as after their arrival."""
        for record in self.checkpoints:
            with Path(record["files"][0]["path"]).open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass

    def load(self, host: HostProcess, dtype: str | None = None) -> HostEngine:
        """The first checkpoint as an engine. `dtype`: a precision other than the setting's."""
        return HostEngine(host, self.graph, self.checkpoints[0], dtype or self.dtype, self.names)

    def stack(self, *items: tuple[int, float]) -> list[tuple[Path, str, float]]:
        return [(*self.adapters[index], strength) for index, strength in items]
