"""Small engines on the CPU, with checkpoint and adapter files as a user has them. In: a structure's shapes. Out: weights, modules, images."""

from __future__ import annotations

from pathlib import Path

import torch
from graph_structures import tiny_shapes
from refit_host.files.checkpoint import CheckpointReader
from refit_host.files.delta import read_delta
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from refit_host.models.spec import ModelSpec
from refit_host.models.units import units_of
from refit_host.quant.weights import QuantWeights
from refit_host.torch_engine.block_stream import BlockStream
from refit_host.weights.image import read_image
from refit_host.weights.refit import Weights
from refit_host.weights.split import BUFFERS, choose_streamed, parts_of, split_of
from refit_host.weights.stream import Ring
from refit_host.weights.streamed import StreamedWeights

from bench.gpu import data

CPU = torch.device("cpu")


def _unet() -> dict[str, tuple[int, ...]]:
    return tiny_shapes("sd15", [32, 64, 64, 64])


UNET = _unet()


def sdxl_shapes() -> dict[str, tuple[int, ...]]:
    return tiny_shapes("sdxl", [64, 64, 128])


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


def streamed_engine(
    folder, share: float, shapes=UNET, copier=None, spec: ModelSpec | None = None
) -> tuple[StreamedWeights, torch.nn.Module]:
    spec = spec or spec_of(shapes)
    whole = layout_of(spec, shapes, torch.float32, channels_last=True)
    sizes = {slot.name: slot.nbytes for slot in whole.slots}
    units = units_of(spec)
    largest = max(sum(sizes[name] for name in unit.parameters) for unit in units)
    inside = sum(sizes[name] for unit in units for name in unit.parameters)
    chosen = choose_streamed(units, sizes, int(whole.nbytes - share * inside + BUFFERS * largest + 256 * len(sizes)))
    layout = layout_of(spec, shapes, torch.float32, channels_last=True, part=parts_of(chosen))
    weights = StreamedWeights(layout, split_of(layout, chosen), CPU, Ring(CPU))
    weights.load("pinned", reader(folder, shapes))
    module = bind(spec.build(), spec, weights.placed, weights.container)
    return weights, BlockStream(weights, copier).attach(module)


def bits(weights: QuantWeights) -> torch.Tensor:
    """Every stored byte; the gaps between stored tensors belong to nobody."""
    coded = [
        part
        for slot in weights.layout.slots
        if slot.index in weights.stored.coded
        for part in weights.stored.parts(slot, weights.live).values()
    ]
    whole = [slot.physical(weights.live) for slot in weights.stored.whole.slots]
    return torch.cat([part.contiguous().view(torch.uint8).flatten() for part in (*coded, *whole)])
