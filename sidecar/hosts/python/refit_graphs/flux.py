"""Flux (dev, schnell, fill, and the control structure). In: canonical shapes. Out: an Exportable of diffusers' FluxTransformer2DModel.

Inputs of a step: sample as an unpacked latent (even height and width), timestep (sigma 0..1, f32), encoder_hidden_states, y (pooled text) and,
where the structure has it, guidance (f32). Packing into 2x2 patches and the position ids happen inside the graph.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.nn import functional

from .descriptions import Described
from .errors import UnsupportedStructure
from .exportable import Exportable, transformer
from .header import Shapes
from .rotary import CosSin, angles, turn

PATCH = 2
THETA = 10000


def exportable(shapes: Shapes) -> Exportable:
    config = _config(shapes)
    output = ("batch", config["out_channels"] // PATCH**2, "height", "width")
    return transformer("flux", shapes, config, _build, output, {"batch": 2, "height": 4, "width": 6, "tokens": 5}, _run)


def _config(shapes: Shapes) -> dict[str, Any]:
    try:
        width, channels = shapes["img_in.weight"]
        head = shapes["double_blocks.0.img_attn.norm.key_norm.scale"][0]
        described = Described("flux", shapes)
        if width % head or head % 16:
            raise UnsupportedStructure(
                f"expected heads of a multiple of 16 channels that divide {width}, found {head}: this structure is not supported"
            )
        return {
            "patch_size": 1,
            "in_channels": channels,
            "out_channels": shapes["final_layer.linear.weight"][0],
            "num_layers": described.size("doubleBlocks"),
            "num_single_layers": described.size("singleBlocks"),
            "attention_head_dim": head,
            "num_attention_heads": width // head,
            "joint_attention_dim": shapes["txt_in.weight"][1],
            "pooled_projection_dim": shapes["vector_in.in_layer.weight"][1],
            "guidance_embeds": "guidance_in.in_layer.weight" in shapes,
            # Published heads have 128 channels, 16 of them for the frame and 56 for each axis; smaller relatives keep the proportion.
            "axes_dims_rope": [head // 8, head * 7 // 16, head * 7 // 16],
        }
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, UnsupportedStructure):
            raise
        raise UnsupportedStructure(f"expected a Flux header, without {error}: this structure is not supported") from error


def _build(config: dict[str, Any]) -> FluxTransformer2DModel:
    with torch.device("meta"):
        module = FluxTransformer2DModel(**config).eval()
    # diffusers computes angles in f64, which this trace uses for the variant's float type; cos and sin are f32 in both.
    module.pos_embed.forward = MethodType(lambda self, ids: _rotation(ids, config["axes_dims_rope"]), module.pos_embed)
    module.set_attn_processor(_Attention())
    return module


def _rotation(ids: torch.Tensor, axes: list[int]) -> CosSin:
    turns = torch.cat([angles(ids[:, i], width, THETA) for i, width in enumerate(axes)], dim=-1)
    return turns.cos(), turns.sin()


class _Attention:
    """diffusers' Flux attention with the rotation as formulas that keep every axis dynamic: text first, then the picture."""

    def __call__(self, attn: nn.Module, hidden: torch.Tensor, context: torch.Tensor | None, mask: None, rotation: CosSin) -> object:
        def split(values: torch.Tensor) -> torch.Tensor:
            return values.reshape(values.shape[0], -1, attn.heads, attn.head_dim).transpose(1, 2)

        query, key, value = attn.norm_q(split(attn.to_q(hidden))), attn.norm_k(split(attn.to_k(hidden))), split(attn.to_v(hidden))
        if context is not None:
            query = torch.cat([attn.norm_added_q(split(attn.add_q_proj(context))), query], dim=2)
            key = torch.cat([attn.norm_added_k(split(attn.add_k_proj(context))), key], dim=2)
            value = torch.cat([split(attn.add_v_proj(context)), value], dim=2)
        mixed = functional.scaled_dot_product_attention(turn(query, rotation), turn(key, rotation), value).transpose(1, 2).flatten(2)
        if context is None:
            return mixed
        words = context.shape[1]
        return attn.to_out[0](mixed[:, words:]), attn.to_add_out(mixed[:, :words])


def _run(
    module: FluxTransformer2DModel,
    sample: torch.Tensor,
    timestep: torch.Tensor,
    context: torch.Tensor,
    y: torch.Tensor,
    guidance: torch.Tensor | None = None,
) -> torch.Tensor:
    batch, channels, height, width = sample.shape
    rows, columns = height // PATCH, width // PATCH
    packed = (
        sample.reshape(batch, channels, rows, PATCH, columns, PATCH)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(batch, rows * columns, channels * PATCH**2)
    )
    grid = torch.stack(
        [
            torch.zeros(rows, columns),
            torch.arange(rows).float()[:, None].expand(rows, columns),
            torch.arange(columns).float().expand(rows, columns),
        ],
        dim=-1,
    )
    embed = type(module.time_text_embed).forward
    # diffusers rounds timestep and guidance to the float type before it scales them by 1000; in f16 that would move them by up to half a step.
    times = (timestep * 1000,) if guidance is None else (timestep * 1000, guidance * 1000)
    module.time_text_embed.forward = MethodType(lambda self, *given: embed(self, *times, given[-1]), module.time_text_embed)
    out = module(
        packed,
        context,
        y,
        timestep,
        img_ids=grid.reshape(-1, 3),
        txt_ids=torch.zeros(context.shape[1], 3),
        guidance=guidance,
        return_dict=False,
    )[0]
    out_channels = module.config.out_channels // PATCH**2
    return (
        out.reshape(batch, rows, columns, out_channels, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5).reshape(batch, out_channels, height, width)
    )
