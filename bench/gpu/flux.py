"""Flux dev for the bench: shapes by formula, random bf16 weights made on the device, plain diffusers and the host's own module over them."""

from __future__ import annotations

from typing import Mapping

import torch
from diffusers import FluxTransformer2DModel
from refit_graphs.families import plan
from refit_host.models import flux
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import sources_of, spec_of
from refit_host.models.spec import ModelSpec
from refit_host.weights.base import Base
from refit_host.weights.peaks import peak
from refit_host.weights.stream import Ring

from .context import Context
from .data import linear_layers

# width, head, double blocks, single blocks, text width, pooled width, latent channels of a patch
REAL = (3072, 128, 19, 38, 4096, 768, 64)
PRODUCTS = ("img_attn.qkv", "txt_attn.qkv", "attn.proj", "mlp.0", "mlp.2", "linear1", "linear2")
TINY = (256, 64, 2, 2, 64, 48, 64)


def shapes(width: int, head: int, double: int, single: int, text: int, pooled: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Canonical names and shapes of Flux dev (guidance embedded)."""
    out: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, cols: int) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = (rows, cols), (rows,)

    linear("img_in", width, channels)
    linear("txt_in", width, text)
    for name, cols in (("time_in", 256), ("vector_in", pooled), ("guidance_in", 256)):
        linear(f"{name}.in_layer", width, cols)
        linear(f"{name}.out_layer", width, width)
    for index in range(double):
        for side in ("img", "txt"):
            stem = f"double_blocks.{index}.{side}"
            linear(f"{stem}_mod.lin", 6 * width, width)
            linear(f"{stem}_attn.qkv", 3 * width, width)
            linear(f"{stem}_attn.proj", width, width)
            linear(f"{stem}_mlp.0", 4 * width, width)
            linear(f"{stem}_mlp.2", width, 4 * width)
            for part in ("query", "key"):
                out[f"{stem}_attn.norm.{part}_norm.scale"] = (head,)
    for index in range(single):
        stem = f"single_blocks.{index}"
        linear(f"{stem}.linear1", 7 * width, width)
        linear(f"{stem}.linear2", width, 5 * width)
        linear(f"{stem}.modulation.lin", 3 * width, width)
        for part in ("query", "key"):
            out[f"{stem}.norm.{part}_norm.scale"] = (head,)
    linear("final_layer.linear", channels, width)
    linear("final_layer.adaLN_modulation.1", 2 * width, width)
    return out


class Flux:
    """One arena of random weights in bf16."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.sizes = TINY if context.tiny else REAL
        self.shapes = shapes(*self.sizes)
        self.spec = spec_of(self.shapes)
        self.layout = layout_of(self.spec, self.shapes, torch.bfloat16, channels_last=False)
        self.arena = torch.empty(self.layout.nbytes, dtype=torch.uint8, device=context.device)
        make = torch.Generator(context.device).manual_seed(11)
        for slot in self.layout.slots:
            value = torch.randn(slot.shape, device=context.device, generator=make)
            # Matrices keep the variance of what they multiply, as trained ones roughly do; norms are near one, biases near zero.
            slot.put(
                self.arena,
                value * (0.7 / slot.cols**0.5) if len(slot.shape) > 1 else value * 0.02 + (1.0 if slot.name.endswith("scale") else 0.0),
            )

    def products(self) -> list[str]:
        """The matrices that a quantised file holds as codes, and that adapters of the bench change."""
        return [name for name in linear_layers(self.shapes) if name.removesuffix(".weight").endswith(PRODUCTS)]

    def base(self) -> Base:
        """The weights as a resident base."""
        peaks = torch.stack([peak(slot.physical(self.arena)) for slot in self.layout.slots]).cpu().numpy()
        return Base("resident", self.layout, None, Ring(self.context.device), self.arena, peaks)

    def module(self) -> torch.nn.Module:
        """As the host builds it."""
        return bind(self.spec.build(), self.spec, self.layout, self.arena)

    def plain(self) -> torch.nn.Module:
        """As a user of diffusers has it: its own class and attention, nothing of the host but where the weights lie."""
        found = plan(dict(self.shapes))

        def build() -> torch.nn.Module:
            with torch.device("meta"):
                return FluxTransformer2DModel(**found.config)

        spec = ModelSpec("flux", found.config, build, sources_of(found), (), flux.forward)
        return bind(spec.build(), spec, self.layout, self.arena)

    def forward(self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return flux.forward(module, inputs)

    def inputs(self, batch: int = 1, side: int = 1024, tokens: int = 512, seed: int = 0) -> dict[str, torch.Tensor]:
        """Random step inputs. Timestep and guidance are exact in bf16 also when multiplied by 1000."""
        _, _, _, _, text, pooled, channels = self.sizes
        if self.context.tiny:
            side, tokens = 64, 16
        make = torch.Generator("cpu").manual_seed(seed)
        of = {"sample": (batch, channels // 4, side // 8, side // 8), "encoder_hidden_states": (batch, tokens, text), "y": (batch, pooled)}
        out = {name: torch.randn(shape, generator=make).to(self.context.device, torch.bfloat16) for name, shape in of.items()}
        numbers = {"timestep": 0.5, "guidance": 4.0}
        return {**out, **{name: torch.full((batch,), value, device=self.context.device) for name, value in numbers.items()}}
