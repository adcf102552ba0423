"""An experiment: Flux blocks with fewer passes over memory. The first layer of an MLP applies its own GELU, and a single block's last layer takes
attention and MLP as they are, without the tensor that joins them. The same weights and, up to rounding, the same values as diffusers' blocks.

Not timed on a GPU yet, so the host does not use it; `python -m bench.gpu flux --options '{"modes": ["bf16 compiled", "bf16 compiled, fewer passes"]}'`.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.activations import GELU
from diffusers.models.transformers import transformer_flux
from torch import Tensor, nn


@torch.library.custom_op("refit_bench::linear_gelu", mutates_args=())
def linear_gelu(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """gelu_tanh(value weight^T + bias) of [..., cols] in one product. CUDA alone: elsewhere PyTorch applies the other GELU here."""
    flat = value.reshape(-1, value.shape[-1])
    return torch._addmm_activation(bias, flat, weight.t(), use_gelu=True).view(*value.shape[:-1], -1)


@linear_gelu.register_fake
def _(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return value.new_empty(*value.shape[:-1], weight.shape[0])


def _gelu_of(layer: nn.Linear, value: Tensor) -> Tensor:
    return linear_gelu(value, layer.weight, layer.bias) if value.is_cuda else nn.functional.gelu(layer(value), approximate="tanh")


class FusedGelu(GELU):
    """Takes the place of diffusers' GELU layer (tanh form)."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return _gelu_of(self.proj, hidden_states)


def _joined(layer: nn.Linear, first: Tensor, second: Tensor) -> Tensor:
    """layer(cat([first, second], -1))."""
    width = first.shape[-1]
    out = nn.functional.linear(first, layer.weight[:, :width], layer.bias)
    rest = torch.addmm(out.reshape(-1, out.shape[-1]), second.reshape(-1, second.shape[-1]), layer.weight[:, width:].t())
    return rest.view(out.shape)


class FluxSingleTransformerBlock(transformer_flux.FluxSingleTransformerBlock):
    """Named as the class that it takes the place of: blocks are found by name."""

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        words = encoder_hidden_states.shape[1]
        residual = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        normed, gate = self.norm(residual, emb=temb)
        mixed = self.attn(hidden_states=normed, image_rotary_emb=image_rotary_emb, **(joint_attention_kwargs or {}))
        out = residual + gate.unsqueeze(1) * _joined(self.proj_out, mixed, _gelu_of(self.proj_mlp, normed))
        return out[:, :words], out[:, words:]


def use_fused_blocks(module: nn.Module) -> nn.Module:
    """Changes the classes of a bf16 Flux module's layers; parameters and names stay."""
    for child in module.modules():
        if type(child) is transformer_flux.FluxSingleTransformerBlock:
            child.__class__ = FluxSingleTransformerBlock
        elif type(child) is GELU and child.approximate == "tanh":
            child.__class__ = FusedGelu
    return module
