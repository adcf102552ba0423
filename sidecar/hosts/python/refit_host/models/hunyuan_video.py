"""HunyuanVideo on a device. In: canonical shapes. Out: diffusers' HunyuanVideoTransformer3DModel, called as ComfyUI calls its own.

`timestep` runs to 1000, `guidance` is the plain number. Patches come before words; words are not turned. A mask hides words from everything, and hidden words are averaged
with the others where the run's words are summed up, as in ComfyUI.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor, nn

from ..failure import HostFailure
from .attention import CosSin, mix, turn
from .configuration import count, even_axes, need
from .patches import from_tokens, padded
from .rotation import Frequencies, cos_sin, places_of
from .spec import Shapes

THETA = 256.0
AXES = (2, 7, 7)

# The words are refined block by block, not by a call of the refiner as a whole.
REPEATED = ("HunyuanVideoTransformerBlock", "HunyuanVideoSingleTransformerBlock")


def sizes_of(shapes: Shapes) -> dict[str, Any]:
    """What all releases of the family share."""
    if "time_r_in.in_layer.weight" in shapes:
        raise HostFailure(
            "HOST_GRAPH_INVALID",
            "expected a model of one time, found one that takes the time of the next step too (time_r_in): this structure is not supported",
        )
    width, channels, *patch = need(shapes, "img_in.proj.weight")
    (head,) = need(shapes, "double_blocks.0.img_attn.norm.key_norm.weight")
    return {
        "in_channels": channels,
        "out_channels": need(shapes, "final_layer.linear.weight")[0] // (patch[0] * patch[1] * patch[2]),
        "num_attention_heads": width // head,
        "attention_head_dim": head,
        "num_layers": count(shapes, "double_blocks"),
        "num_refiner_layers": count(shapes, "txt_in.individual_token_refiner.blocks"),
        "mlp_ratio": need(shapes, "double_blocks.0.img_mlp.0.weight")[0] / width,
        "patch_size": patch[1],
        "patch_size_t": patch[0],
        "text_embed_dim": need(shapes, "txt_in.input_embedder.weight")[1],
        "rope_theta": THETA,
        "rope_axes_dim": tuple(even_axes(head, AXES)),
    }


def config_of(shapes: Shapes) -> dict[str, Any]:
    return sizes_of(shapes) | {
        "num_single_layers": count(shapes, "single_blocks"),
        "guidance_embeds": "guidance_in.in_layer.weight" in shapes,
        "pooled_projection_dim": need(shapes, "vector_in.in_layer.weight")[1],
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import HunyuanVideoTransformer3DModel

    with torch.device("meta"):
        return HunyuanVideoTransformer3DModel(**config)


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    module.refit_frequencies = Frequencies(config["rope_axes_dim"], THETA)
    module.rope = None
    for block in (*module.transformer_blocks, *getattr(module, "single_transformer_blocks", ())):
        block.attn.set_processor(PatchesFirst())
    return module


class PatchesFirst:
    """Patches and words in one sequence, with projections of their own or shared ones; only patches are turned."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: Tensor | None = None,
        image_rotary_emb: CosSin | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        count_of_patches, width = hidden_states.shape[1], attn.norm_q.weight.shape[0]
        patches = [layer(hidden_states).unflatten(-1, (-1, width)) for layer in (attn.to_q, attn.to_k, attn.to_v)]
        own = attn.add_q_proj is not None
        layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj) if own else (attn.to_q, attn.to_k, attn.to_v)
        words = [layer(encoder_hidden_states).unflatten(-1, (-1, width)) for layer in layers]
        norms = (attn.norm_added_q, attn.norm_added_k) if own else (attn.norm_q, attn.norm_k)
        query = torch.cat([turn(attn.norm_q(patches[0]), image_rotary_emb), norms[0](words[0])], dim=1)
        key = torch.cat([turn(attn.norm_k(patches[1]), image_rotary_emb), norms[1](words[1])], dim=1)
        mixed = mix(query, key, torch.cat([patches[2], words[2]], dim=1), attention_mask)
        out, said = mixed[:, :count_of_patches], mixed[:, count_of_patches:]
        return (attn.to_out[0](out), attn.to_add_out(said)) if own else (out, said)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b] (0..1000), encoder_hidden_states [b, t, d], y [b, k]; guidance [b] where the structure has it; optionally attention_mask [b, t]."""
    sample = inputs["sample"]
    embed, guidance = module.time_text_embed, inputs.get("guidance")
    time = embed.timestep_embedder(embed.time_proj(inputs["timestep"]).to(sample.dtype)) + embed.text_embedder(inputs["y"])
    if embed.guidance_embedder is not None and guidance is not None:
        time = time + embed.guidance_embedder(embed.time_proj(guidance * 1000).to(sample.dtype))
    hidden = hidden_words(inputs, sample.dtype)
    words = refined(module.context_embedder, inputs["encoder_hidden_states"], inputs["timestep"], hidden)
    return video(module, sample, words, time, hidden)


def hidden_words(inputs: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of words [b, t]: nothing, or so much that a word counts nothing."""
    mask = inputs.get("attention_mask")
    return None if mask is None else (mask.to(dtype) - 1) * torch.finfo(dtype).max


def refined(embed: nn.Module, words: Tensor, timestep: Tensor, hidden: Tensor | None) -> Tensor:
    time = embed.time_text_embed(timestep, words.float().mean(dim=1).to(words.dtype))
    pairs = None if hidden is None else hidden[:, None, None, :] + hidden[:, None, :, None]
    words = embed.proj_in(words)
    for block in embed.token_refiner.refiner_blocks:
        words = block(words, time, pairs)
    return words


def video(module: nn.Module, sample: Tensor, words: Tensor, time: Tensor, hidden: Tensor | None) -> Tensor:
    """The blocks, from a latent of any size to the velocity. `hidden`: of the last words; those before them are seen."""
    height, width, patch = *sample.shape[-2:], module.config.patch_size
    picture = padded(sample, patch)
    frames, rows, columns = picture.shape[2] // module.config.patch_size_t, picture.shape[3] // patch, picture.shape[4] // patch
    turns = cos_sin([places_of((frames, rows, columns), module.refit_frequencies.on(sample.device))])
    tokens, mask = module.x_embedder(picture), None
    if hidden is not None:
        before = tokens.shape[1] + words.shape[1] - hidden.shape[1]
        mask = torch.cat([hidden.new_zeros(len(hidden), before), hidden], dim=1)[:, None, None]
    for block in (*module.transformer_blocks, *getattr(module, "single_transformer_blocks", ())):
        tokens, words = block(tokens, words, time, mask, turns)
    out = module.proj_out(module.norm_out(tokens, time))
    return from_tokens(out, rows, columns, patch, frames=frames)[..., :height, :width]
