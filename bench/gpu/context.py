"""What every piece needs: the device, the structure under test, its random checkpoint and adapters, and honest clocks."""

from __future__ import annotations

import gzip
import json
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import torch
from refit_host.files.checkpoint import CheckpointReader, CheckpointSource
from refit_host.models.registry import spec_of
from refit_host.models.spec import ModelSpec, Shapes

from . import data

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def cudnn_setting(name: str, value: bool) -> Iterator[None]:
    """One of torch.backends.cudnn's own, for a while."""
    before = getattr(torch.backends.cudnn, name)
    setattr(torch.backends.cudnn, name, value)
    try:
        yield
    finally:
        setattr(torch.backends.cudnn, name, before)


@dataclass
class Context:
    device: torch.device
    tiny: bool
    folder: Path
    repeats: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16 if self.device.type == "cuda" else torch.float32

    def sdxl(self) -> tuple[ModelSpec, Shapes]:
        """The SDXL UNet, or a small relative of it with --tiny."""
        packed = Path(__file__).parent / ("tiny-shapes.json.gz" if self.tiny else "sdxl-shapes.json.gz")
        shapes = {name: tuple(shape) for name, shape in json.loads(gzip.decompress(packed.read_bytes())).items()}
        return spec_of(shapes), shapes

    def checkpoint(self, seed: int = 0) -> CheckpointSource:
        """A random checkpoint on disk; made once per folder."""
        return data.checkpoint(self.folder, self.sdxl()[1], self.device, seed)

    def reader(self, seed: int = 0) -> CheckpointReader:
        return CheckpointReader(self.checkpoint(seed))

    def adapter(self, seed: int, rank: int = 16) -> Path:
        """A delta file with a rank-`rank` term on every linear layer of the transformer blocks (722 of SDXL)."""
        return data.adapter(self.folder, self.sdxl()[1], self.device, seed, rank)

    def inputs(self, batch: int, height: int, width: int, tokens: int = 77, seed: int = 0) -> dict[str, torch.Tensor]:
        """Random step inputs; height and width in pixels."""
        config = self.sdxl()[0].config
        scale = 8 if not self.tiny else 64
        make = torch.Generator("cpu").manual_seed(seed)
        shapes = {
            "sample": (batch, config["in_channels"], height // scale, width // scale),
            "encoder_hidden_states": (batch, tokens, config["cross_attention_dim"]),
            "y": (batch, config["projection_class_embeddings_input_dim"]),
        }
        out = {name: torch.randn(shape, generator=make).to(self.device, self.dtype) for name, shape in shapes.items()}
        return {**out, "timestep": torch.full((batch,), 501.0, device=self.device)}

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def wall(self, work: Callable[[], object], repeats: int | None = None, warm: int = 1) -> dict[str, float]:
        """Host clock around `work` with the device idle before and after: what a caller waits for. Milliseconds."""
        times = []
        for index in range(warm + (repeats or self.repeats)):
            self.sync()
            began = time.perf_counter()
            work()
            self.sync()
            if index >= warm:
                times.append((time.perf_counter() - began) * 1000)
        times.sort()
        at = {f"p{part}_ms": round(times[int(part / 100 * (len(times) - 1))], 3) for part in (90, 95)}
        return {"median_ms": round(statistics.median(times), 3), "min_ms": round(times[0], 3), **at, "n": len(times)}


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    """||value - reference|| / ||reference|| in float64 on the device."""
    reference = reference.double()
    return float((value.double() - reference).norm() / reference.norm())
