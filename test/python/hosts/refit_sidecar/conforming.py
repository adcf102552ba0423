"""Small relatives of published models that keep their rules (heads, groups): a running sidecar builds its engine from names and shapes alone."""

from __future__ import annotations

from typing import Callable

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, WanTransformer3DModel
from small_models import Call
from torch import nn

UNET = {
    "sample_size": 8, "block_out_channels": (64, 128), "layers_per_block": 1, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 32,
}  # fmt: skip


def sd15() -> nn.Module:
    return UNet2DConditionModel(**UNET, attention_head_dim=8)


def sd15_call() -> Call:
    return (torch.randn(2, 4, 8, 8), torch.tensor(10)), {"encoder_hidden_states": torch.randn(2, 5, 32)}


def sdxl() -> nn.Module:
    return UNet2DConditionModel(
        **UNET, attention_head_dim=(1, 2), transformer_layers_per_block=(1, 1), use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=16 + 6 * 256,
    )  # fmt: skip


def sdxl_call() -> Call:
    given = {"text_embeds": torch.randn(2, 16), "time_ids": torch.full((2, 6), 512.0)}
    return (torch.randn(2, 4, 8, 8), 10), {"encoder_hidden_states": torch.randn(2, 5, 32), "added_cond_kwargs": given, "return_dict": False}


def flux() -> nn.Module:
    return FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=32, num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=True,
        axes_dims_rope=(4, 14, 14),
    )  # fmt: skip


def flux_call() -> Call:
    places = torch.cat([torch.zeros(24, 1), torch.cartesian_prod(torch.arange(4), torch.arange(6))], dim=1)
    return (), {
        "hidden_states": torch.randn(2, 24, 16), "encoder_hidden_states": torch.randn(2, 5, 32), "pooled_projections": torch.randn(2, 16),
        "timestep": torch.tensor([0.5, 0.5]), "img_ids": places, "txt_ids": torch.zeros(5, 3), "guidance": torch.tensor([3.5]), "return_dict": False,
    }  # fmt: skip


def sd3() -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=64, num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=128,
        pooled_projection_dim=16, pos_embed_max_size=16,
    )  # fmt: skip


def sd3_call() -> Call:
    return (), {
        "hidden_states": torch.randn(2, 16, 8, 8), "encoder_hidden_states": torch.randn(2, 5, 32), "pooled_projections": torch.randn(2, 16),
        "timestep": torch.tensor([500.0, 20.0]),
    }  # fmt: skip


def wan() -> nn.Module:
    return WanTransformer3DModel(
        num_attention_heads=1, attention_head_dim=128, in_channels=16, out_channels=16, text_dim=16, freq_dim=256, ffn_dim=256, num_layers=2
    )


def wan_call() -> Call:
    return (), {
        "hidden_states": torch.randn(1, 16, 2, 8, 8), "timestep": torch.tensor([300]), "encoder_hidden_states": torch.randn(1, 5, 16), "return_dict": False,
    }  # fmt: skip


CONFORMING: dict[str, tuple[Callable[[], nn.Module], Callable[[], Call]]] = {
    "sd15": (sd15, sd15_call),
    "sdxl": (sdxl, sdxl_call),
    "flux": (flux, flux_call),
    "sd3": (sd3, sd3_call),
    "wan": (wan, wan_call),
}
