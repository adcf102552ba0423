"""Small engines on the CPU, with checkpoint and adapter files as a user has them. In: a structure's shapes. Out: weights, modules, images."""

from __future__ import annotations

from pathlib import Path

import torch
from graph_structures import tiny
from refit_host.files.checkpoint import CheckpointReader
from refit_host.files.delta import read_delta
from refit_host.models.bind import layout_of
from refit_host.models.registry import spec_of
from refit_host.models.spec import ModelSpec
from refit_host.weights.image import read_image
from refit_host.weights.refit import Weights
from refit_host.weights.stream import Ring

from bench.gpu import data

CPU = torch.device("cpu")


def _unet() -> dict[str, tuple[int, ...]]:
    return tiny("sd15", [32, 64, 64, 64]).shapes


UNET = _unet()


def sdxl_shapes() -> dict[str, tuple[int, ...]]:
    return tiny("sdxl", [64, 64, 128]).shapes


def reader(folder: Path, shapes, seed: int = 0) -> CheckpointReader:
    return CheckpointReader(data.checkpoint(folder, shapes, CPU, seed))


def image(folder: Path, shapes, layout, seed: int, rank: int = 4, layers=None):
    return read_image(read_delta(data.adapter(folder, shapes, CPU, seed, rank, layers=layers)), layout, pinned=False)


def whole_engine(folder: Path, shapes, place: str = "pinned", spec: ModelSpec | None = None) -> Weights:
    layout = layout_of(spec or spec_of(shapes), shapes, torch.float32, channels_last=True)
    weights = Weights(layout, CPU, Ring(CPU))
    weights.load(place, reader(folder, shapes))
    return weights


def swap(weights: Weights, stack, **options) -> None:
    weights.commit(weights.prepare(stack, **options))


def values(weights: Weights) -> dict[str, torch.Tensor]:
    return {slot.name: weights.value(slot).clone() for slot in weights.layout.slots}
