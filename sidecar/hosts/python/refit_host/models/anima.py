"""Anima on a device: Cosmos Predict2 with a small network that joins the words of two text encoders. Out: diffusers' CosmosTransformer3DModel with its AnimaTextConditioner,
called as ComfyUI calls its own. `timestep` is sigma (0..1).
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration import count, need
from .patches import from_tokens, padded, to_tokens
from .rotation import Frequencies, places_of
from .spec import Shapes

PATCH = 2
THETA = 10000.0
# Rows and columns of a picture are turned as if it were so much smaller.
STRETCH = 4.0
ADAPTER = "llm_adapter"
# Parameters that the module has under the checkpoint's own names.
OWN_NAMES = (f"{ADAPTER}.",)
WORDS = 512


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, patch = need(shapes, "x_embedder.proj.1.weight")
    (head,) = need(shapes, "blocks.0.self_attn.q_norm.weight")
    channels = need(shapes, "final_layer.linear.weight")[0] // PATCH**2
    return {
        "in_channels": patch // PATCH**2 - 1,
        "out_channels": channels,
        "num_attention_heads": width // head,
        "attention_head_dim": head,
        "num_layers": count(shapes, "blocks"),
        "mlp_ratio": need(shapes, "blocks.0.mlp.layer1.weight")[0] / width,
        "text_embed_dim": need(shapes, "blocks.0.cross_attn.k_proj.weight")[1],
        "adaln_lora_dim": need(shapes, "blocks.0.adaln_modulation_self_attn.1.weight")[0],
        "patch_size": (1, PATCH, PATCH),
        "rope_scale": (1.0, STRETCH, STRETCH),
        "concat_padding_mask": True,
        "extra_pos_embed_type": None,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import AnimaTextConditioner, CosmosTransformer3DModel

    vocabulary, target = need(shapes, f"{ADAPTER}.embed.weight")
    inner, source = need(shapes, f"{ADAPTER}.blocks.0.cross_attn.k_proj.weight")
    (head,) = need(shapes, f"{ADAPTER}.blocks.0.cross_attn.q_norm.weight")
    adapter = {
        "source_dim": source,
        "target_dim": target,
        "model_dim": inner,
        "num_layers": count(shapes, f"{ADAPTER}.blocks"),
        "num_attention_heads": inner // head,
        "mlp_ratio": need(shapes, f"{ADAPTER}.blocks.0.mlp.0.weight")[0] / inner,
        "target_vocab_size": vocabulary,
        "min_sequence_length": WORDS,
    }
    with torch.device("meta"):
        module = CosmosTransformer3DModel(**config)
        module.llm_adapter = AnimaTextConditioner(**adapter)
    module.rope = None
    # Its table of frequencies is no parameter: made where there are values.
    module.llm_adapter.rotary_emb = type(module.llm_adapter.rotary_emb)(head)
    return module


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    head = config["attention_head_dim"]
    side = head // 6 * 2
    stretched = THETA * STRETCH ** (side / (side - 2))
    module.refit_frames = Frequencies((head - 2 * side,), THETA)
    module.refit_sides = Frequencies((side, side), stretched)
    return module


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b] (sigma), encoder_hidden_states [b, t, d]. Or the words of a run: words [b, n, d], word_ids [b, t], word_weights [b, t, 1]."""
    if "words" in inputs:
        return _words(module, inputs)
    sample, words = inputs["sample"], inputs["encoder_hidden_states"]
    height, width = sample.shape[-2:]
    picture = padded(sample, PATCH)
    frames, rows, columns = picture.shape[2], picture.shape[3] // PATCH, picture.shape[4] // PATCH
    # A last channel says where a picture is padding; here it never is.
    tokens = module.patch_embed.proj(to_tokens(functional.pad(picture, (0, 0) * 3 + (0, 1)), PATCH))
    change, time = module.time_embed(tokens, inputs["timestep"])
    device = sample.device
    angles = places_of((frames, rows, columns), [*module.refit_frames.on(device), *module.refit_sides.on(device)])
    angles = torch.cat([angles, angles], dim=-1)
    turns = (angles.cos(), angles.sin())
    for block in module.transformer_blocks:
        tokens = block(tokens, words, time, change, turns)
    out = module.proj_out(module.norm_out(tokens, time, change))
    return from_tokens(out, rows, columns, PATCH, channels_last=True, frames=frames)[..., :height, :width]


def _words(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What the steps of a run take as words, from both encoders': filled up to a fixed number with zeros."""
    adapter = module.llm_adapter
    ids = inputs["word_ids"].long()
    joined = adapter(inputs["words"], ids)[:, : ids.shape[1]]
    if "word_weights" in inputs:
        joined = joined * inputs["word_weights"].to(joined.dtype)
    return functional.pad(joined, (0, 0, 0, max(0, WORDS - ids.shape[1])))
