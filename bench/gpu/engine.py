"""The host's own parts put together the way the host does it, so that pieces measure the real path."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

import torch
from refit_host.files.delta import read_delta
from refit_host.models.bind import bind, layout_of
from refit_host.torch_engine.graphs import GraphedStep
from refit_host.weights.base import Place
from refit_host.weights.image import DeltaImage, read_image
from refit_host.weights.refit import Prepared, Weights
from refit_host.weights.stream import Ring

from .context import Context


class Engine:
    """SDXL UNet bound to an arena, loaded from a random checkpoint."""

    def __init__(self, context: Context, place: Place, *, channels_last: bool | None = None, merge: str = "auto", seed: int = 0) -> None:
        self.context = context
        self.spec, shapes = context.sdxl()
        wide = context.device.type == "cuda" if channels_last is None else channels_last
        self.layout = layout_of(self.spec, shapes, context.dtype, channels_last=wide)
        self.ring = Ring(context.device)
        self.weights = Weights(self.layout, context.device, self.ring, merge=merge)
        self.weights.load(place, context.reader(seed))
        self.module = self.fresh_module()
        self._images: dict[Path, DeltaImage] = {}

    def fresh_module(self) -> torch.nn.Module:
        """Another module over the same weights."""
        return bind(self.spec.build(), self.spec, self.layout, self.weights.live)

    def image(self, path: Path) -> DeltaImage:
        """A delta file's image, kept as the host keeps it (pinned)."""
        if path not in self._images:
            self._images[path] = read_image(read_delta(path), self.layout, pinned=self.context.device.type == "cuda")
        return self._images[path]

    def prepare(self, stack: Sequence[tuple[Path, float]], **options) -> Prepared:
        return self.weights.prepare([(self.image(path), strength) for path, strength in stack], **options)

    def swap(self, stack: Sequence[tuple[Path, float]], **options) -> float:
        """Prepare and commit, as one swap between two steps."""
        return self.weights.commit(self.prepare(stack, **options))

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.spec.forward(self.module, inputs)

    def graphed(self) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
        """The present module's steps as CUDA graphs."""
        graphs, module = GraphedStep(self.spec.forward, self.context.device), self.module
        return lambda inputs: graphs(module, inputs)

    def digest(self) -> int:
        """A sum over the bits of all live weights: equal before and after means bit-identical (with overwhelming likelihood)."""
        words = self.weights.live.view(torch.int32)
        index = torch.arange(1, 1 + (1 << 20), device=words.device, dtype=torch.int64)
        total = 0
        for begin in range(0, words.numel(), 1 << 20):
            part = words[begin : begin + (1 << 20)].long()
            total = (total * 1000003 + int((part * index[: part.numel()]).sum())) & ((1 << 63) - 1)
        return total
