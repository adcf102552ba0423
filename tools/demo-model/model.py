"""The demo's UNet: SD1.5's four levels and block layout, with narrow levels. In: nothing. Out: a diffusers model and its canonical state."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sidecar/hosts/python"))
from refit_graphs.unet_names import diffusers_name  # noqa: E402

WIDTHS = (32, 64, 64, 64)
CONTEXT = 768
TOKENS = 4
NULL_CLASS = 10
PREFIX = "model.diffusion_model."


def create() -> UNet2DConditionModel:
    """A fresh UNet with SD1.5's options. The last layer of every residual branch starts at zero, as LDM does it."""
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=WIDTHS,
        cross_attention_dim=CONTEXT,
        attention_head_dim=8,
        layers_per_block=2,
    )
    for name, parameter in unet.named_parameters():
        if ".conv2." in name or ".proj_out." in name or name.startswith("conv_out."):
            torch.nn.init.zeros_(parameter)
    return unet


def conditioning(seed: int = 20) -> torch.Tensor:
    """Fixed random tokens [11, 4, 768]: one row of tokens a class, the last is the null class (unconditional)."""
    return torch.randn(NULL_CLASS + 1, TOKENS, CONTEXT, generator=torch.Generator().manual_seed(seed)).half().float()


def canonical_state(unet: UNet2DConditionModel, canonical_names: list[str]) -> dict[str, torch.Tensor]:
    """The UNet's weights under their checkpoint keys, f16."""
    state = unet.state_dict()
    return {PREFIX + name: state[diffusers_name(name, (2, 2, 2, 2))].half().contiguous() for name in canonical_names}
