"""Small random pipelines and adapters, so that every script runs anywhere. In: nothing. Out: diffusers pipelines of a few thousand parameters."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig


def _vae(channels: int) -> AutoencoderKL:
    return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=channels, sample_size=16)


def sdxl() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=32, attention_head_dim=(4, 8), transformer_layers_per_block=(1, 1),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=32 + 6 * 8,
    ).eval()  # fmt: skip
    pipe = StableDiffusionXLPipeline(
        _vae(4).eval(), None, None, None, None, unet, EulerDiscreteScheduler(), force_zeros_for_empty_prompt=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def flux_pipeline() -> FluxPipeline:
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 6, 6),
    ).eval()  # fmt: skip
    pipe = FluxPipeline(FlowMatchEulerDiscreteScheduler(), _vae(4).eval(), None, None, None, None, transformer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def lora(module: torch.nn.Module, seed: int, rank: int = 4) -> dict[str, torch.Tensor]:
    """A random LoRA of all attention layers, as a file in diffusers' own names holds it."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    module.add_adapter(config, "random")
    out = {name.replace(".random.", "."): value.detach().clone() for name, value in module.named_parameters() if ".random." in name}
    module.unload_lora()
    return out


def prompt(pipe: Any) -> dict[str, torch.Tensor]:
    """What the text encoders would give: these pipelines have none."""
    make = torch.Generator().manual_seed(1)
    embeds = {
        "prompt_embeds": torch.randn(1, 6, 32, generator=make),
        "pooled_prompt_embeds": torch.randn(1, 16 if isinstance(pipe, FluxPipeline) else 32, generator=make),
    }
    if isinstance(pipe, FluxPipeline):
        return embeds
    return {**embeds, "negative_prompt_embeds": torch.zeros(1, 6, 32), "negative_pooled_prompt_embeds": torch.zeros(1, 32)}
