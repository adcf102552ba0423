"""UNet families (sd15, sd2, sdxl, refiner): PyTorch's fused attention instead of the exporter's plain one."""

from __future__ import annotations

from typing import Any, Mapping

import torch

# Residual blocks are the other half of a UNet's time; diffusers lists only the transformer blocks.
ALSO_REPEATED = ("ResnetBlock2D",)
FUSED = "unet"


def adapt(module: torch.nn.Module, config: Mapping[str, Any]) -> torch.nn.Module:
    from diffusers.models.attention_processor import AttnProcessor2_0

    module.set_attn_processor(AttnProcessor2_0())
    return module
