"""Our names against diffusers' own conversion code, also for structures that the golden vectors lack.

A model class of diffusers, built without memory, gives the names; we map them to checkpoint names; a checkpoint of those names whose values are
row numbers goes through diffusers' converter; every tensor must come out under the name, and with the rows, that our map says.
"""

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, WanTransformer3DModel
from diffusers.loaders import single_file_utils as diffusers_code
from oracle_node import names

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SD2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
REFINER = {
    **SDXL,
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 4,
    "attention_head_dim": [6, 12, 24, 24],
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
CUT = {**SDXL, "mid_block_type": "UNetMidBlock2D"}
UNETS = {
    "sd15": ("sd15", SD15),
    "sd15-inpaint": ("sd15", {**SD15, "in_channels": 9}),
    "sd15-one-resnet": ("sd15", {**SD15, "layers_per_block": 1}),
    "sd15-three-resnets": ("sd15", {**SD15, "layers_per_block": 3}),
    "sd2": ("sd2", SD2),
    "sdxl": ("sdxl", SDXL),
    "sdxl-refiner": ("sdxl-refiner", REFINER),
    "ssd-1b": (
        "sdxl",
        {**CUT, "transformer_layers_per_block": [1, 2, 4], "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1]},
    ),
    "vega": ("sdxl", {**CUT, "transformer_layers_per_block": [1, 1, 2], "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1]}),
    "koala-1b": ("sdxl", {**SDXL, "layers_per_block": 1, "transformer_layers_per_block": [1, 2, 6]}),
}
convert_flux = diffusers_code.convert_flux_transformer_checkpoint_to_diffusers
convert_sd3 = diffusers_code.convert_sd3_transformer_checkpoint_to_diffusers
convert_wan = diffusers_code.convert_wan_transformer_to_diffusers
SD35 = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "qk_norm": "rms_norm"}
TRANSFORMERS = {
    "flux-dev": ("flux", FluxTransformer2DModel, {"num_layers": 3, "num_single_layers": 4, "guidance_embeds": True}, convert_flux),
    "flux-schnell": ("flux", FluxTransformer2DModel, {"num_layers": 2, "num_single_layers": 12}, convert_flux),
    "flux-fill": (
        "flux",
        FluxTransformer2DModel,
        {"num_layers": 2, "num_single_layers": 2, "in_channels": 384, "out_channels": 64, "guidance_embeds": True},
        convert_flux,
    ),
    "sd3-medium": ("sd3", SD3Transformer2DModel, {**SD35, "pos_embed_max_size": 192, "qk_norm": None}, convert_sd3),
    "sd35-medium": (
        "sd3",
        SD3Transformer2DModel,
        {**SD35, "pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13))},
        convert_sd3,
    ),
    "sd35-large": (
        "sd3",
        SD3Transformer2DModel,
        {**SD35, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432},
        convert_sd3,
    ),
    "wan-t2v": ("wan", WanTransformer3DModel, {"num_layers": 11, "num_attention_heads": 12}, convert_wan),
    "wan-i2v": (
        "wan",
        WanTransformer3DModel,
        {"num_layers": 2, "num_attention_heads": 40, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
        convert_wan,
    ),
    "wan22-5b": (
        "wan",
        WanTransformer3DModel,
        {"num_layers": 2, "num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336},
        convert_wan,
    ),
}


def shapes_of(model) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def numbered(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """A checkpoint whose rows say which parameter and row they are. Trailing dimensions are 1: converters cut along rows only."""
    return {
        name: (torch.arange(shape[0] if shape else 1, dtype=torch.int64) + (index << 32)).reshape(
            [shape[0] if shape else 1] + [1] * (len(shape) - 1)
        )
        for index, (name, shape) in enumerate(shapes.items())
    }


def swapped(rows: torch.Tensor) -> torch.Tensor:
    first, second = rows.chunk(2, dim=0)
    return torch.cat([second, first], dim=0)


def check(found: dict, shapes: dict[str, list[int]], convert, prefix: str) -> None:
    assert found["format"] == "diffusers"
    assert found["other"] == []
    checkpoint = numbered(found["shapes"])
    converted = convert({prefix + name: tensor.clone() for name, tensor in checkpoint.items()})
    seen = set()
    for name, parts in found["parameters"].items():
        assert sum(length for _, _, length, _ in parts) == (found["shapes"][name][:1] or [1])[0]
        for key, start, length, swap in parts:
            seen.add(key)
            rows = checkpoint[name][start : start + length]
            assert torch.equal(converted[key].flatten(), (swapped(rows) if swap else rows).flatten()), (name, key)
    assert seen == set(shapes)
    assert set(converted) >= set(shapes)


def check_map(found: dict, spell) -> int:
    """Every diffusers module name that the adapter map lists leads where the conversion says."""
    checked = 0
    for name, parts in found["parameters"].items():
        for key, start, length, swap in parts:
            stem = key.removesuffix(".weight")
            if stem == key:
                continue
            parameter, first, count, halves = found["map"][spell(stem)]
            assert parameter == name, key
            assert (first, count if count is not None else length, halves) == (start, length, swap), key
            checked += 1
    return checked


@pytest.mark.parametrize("name", UNETS)
def test_unet_names_equal_diffusers_conversion(name):
    family, config = UNETS[name]
    with torch.device("meta"):
        model = UNet2DConditionModel(**config)
    shapes = shapes_of(model)
    found = names(family, shapes)
    check(
        found,
        shapes,
        lambda checkpoint: diffusers_code.convert_ldm_unet_checkpoint(checkpoint, dict(model.config)),
        "model.diffusion_model.",
    )
    assert check_map(found, lambda stem: "lora_unet_" + stem.replace(".", "_")) > 200


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformer_names_equal_diffusers_conversion(name):
    family, model_class, config, convert = TRANSFORMERS[name]
    with torch.device("meta"):
        model = model_class(**config)
    shapes = shapes_of(model)
    found = names(family, shapes)
    check(found, shapes, convert, "")
    if family != "wan":  # ComfyUI's map has no diffusers names for Wan.
        assert check_map(found, lambda stem: "transformer." + stem) > 50
