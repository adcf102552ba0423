"""Every family's diffusers class at a size of a few thousand parameters, with random weights, and one call of it."""

from __future__ import annotations

from typing import Any, Callable

import torch
from diffusers import (
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    WanTransformer3DModel,
    ZImageTransformer2DModel,
)
from torch import nn

Call = tuple[tuple, dict[str, Any]]
UNET = {
    "sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def sd15() -> nn.Module:
    return UNet2DConditionModel(**UNET, cross_attention_dim=32, attention_head_dim=8)


def sd15_call(batch: int = 2, side: int = 8) -> Call:
    return (_random(batch, 4, side, side), torch.tensor(10)), {"encoder_hidden_states": _random(batch, 5, 32)}


def sdxl() -> nn.Module:
    return UNet2DConditionModel(
        **UNET, cross_attention_dim=32, attention_head_dim=(4, 8), transformer_layers_per_block=(1, 1), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=16 + 6 * 8,
    )  # fmt: skip


def sdxl_call() -> Call:
    given = {"text_embeds": _random(2, 16), "time_ids": torch.ones(2, 6)}
    return (_random(2, 4, 8, 8), torch.tensor(10)), {
        "encoder_hidden_states": _random(2, 5, 32),
        "added_cond_kwargs": given,
        "return_dict": False,
    }


def sd2() -> nn.Module:
    return UNet2DConditionModel(
        **UNET, cross_attention_dim=32, attention_head_dim=(4, 8), use_linear_projection=True, upcast_attention=True
    )


def refiner() -> nn.Module:
    return UNet2DConditionModel(
        **UNET, cross_attention_dim=32, attention_head_dim=(4, 8), transformer_layers_per_block=2, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=16 + 5 * 8,
    )  # fmt: skip


def refiner_call() -> Call:
    (sample, when), given = sdxl_call()
    return (sample, when), {**given, "added_cond_kwargs": {"text_embeds": _random(2, 16), "time_ids": torch.ones(2, 5)}}


def kandinsky22() -> nn.Module:
    down, up = ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D")
    return UNet2DConditionModel(
        **{**UNET, "down_block_types": down, "up_block_types": up}, mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=32, attention_head_dim=8,
        addition_embed_type="image", addition_embed_type_num_heads=8, encoder_hid_dim=16, encoder_hid_dim_type="image_proj", resnet_time_scale_shift="scale_shift",
    )  # fmt: skip


def kandinsky22_call() -> Call:
    given = {"image_embeds": _random(2, 16)}
    return (_random(2, 4, 8, 8), torch.tensor(10)), {"encoder_hidden_states": None, "added_cond_kwargs": given, "return_dict": False}


def sd3() -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, num_layers=2, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=16,
        pos_embed_max_size=16,
    )  # fmt: skip


def sd35() -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, num_layers=2, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=16,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip


def sd3_call() -> Call:
    return (), {
        "hidden_states": _random(2, 16, 8, 8),
        "encoder_hidden_states": _random(2, 5, 32),
        "pooled_projections": _random(2, 16),
        "timestep": torch.tensor([5.0, 5.0]),
    }


def flux() -> nn.Module:
    return FluxTransformer2DModel(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16,
                                  guidance_embeds=True, axes_dims_rope=(4, 6, 6))  # fmt: skip


def flux_call() -> Call:
    return (), {
        "hidden_states": _random(1, 16, 16), "encoder_hidden_states": _random(1, 5, 32), "pooled_projections": _random(1, 16), "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(5, 3), "guidance": torch.tensor([3.5]), "return_dict": False,
    }  # fmt: skip


def wan() -> nn.Module:
    return WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=2,
                                 rope_max_seq_len=32)  # fmt: skip


def wan_call() -> Call:
    return (), {
        "hidden_states": _random(1, 4, 2, 8, 8),
        "timestep": torch.tensor([10]),
        "encoder_hidden_states": _random(1, 5, 16),
        "return_dict": False,
    }


def z_image() -> nn.Module:
    return ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[64, 32, 32],
    )


def z_image_call() -> Call:
    return ([_random(4, 1, 8, 8)], torch.tensor([0.5]), [_random(6, 16)]), {"return_dict": False}


def qwen_image() -> nn.Module:
    return QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )


def qwen_image_call() -> Call:
    return (), {
        "hidden_states": _random(1, 16, 16), "encoder_hidden_states": _random(1, 5, 16), "encoder_hidden_states_mask": torch.ones(1, 5, dtype=torch.bool),
        "timestep": torch.tensor([0.5]), "img_shapes": [[(1, 4, 4)]], "return_dict": False,
    }  # fmt: skip


FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Call]]] = {
    "sd15": (sd15, sd15_call), "sd2": (sd2, sd15_call), "sdxl": (sdxl, sdxl_call), "sdxl-refiner": (refiner, refiner_call), "kandinsky-2.2": (kandinsky22, kandinsky22_call),
    "sd3": (sd3, sd3_call), "sd3.5": (sd35, sd3_call), "flux": (flux, flux_call), "wan": (wan, wan_call), "z-image": (z_image, z_image_call),
    "qwen-image": (qwen_image, qwen_image_call),
}  # fmt: skip


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module with random weights everywhere: some classes start with zeros, which would hide a missing change."""
    torch.manual_seed(seed)
    module = make().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() >= 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return module


def output(answer: Any) -> torch.Tensor:
    """The tensor of a diffusers answer in any of its forms."""
    value = answer[0] if isinstance(answer, tuple) else getattr(answer, "sample", answer)
    return value[0] if isinstance(value, list) else value
