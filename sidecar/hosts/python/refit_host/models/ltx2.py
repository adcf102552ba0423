"""LTX-2 on a device: video and audio in one step. In: canonical shapes. Out: diffusers' LTX2VideoTransformer3DModel with ComfyUI's connectors, called as ComfyUI calls it.

`timestep` and `audio_timestep` are sigma (0..1); `token_timesteps`, `audio_token_timesteps` those of each cell where some are given. The answer holds the video's velocity, then
the audio's, flat. A step without `audio_sample` is of video alone. What stands in a file's metadata and not in its shapes comes with a step (ltx_places.py, ltx_words.py).
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .attention import mix
from .configuration import count, need
from .ltx_block import Changes, Shared, step
from .ltx_guides import Guides, guides_of, kept, put_back
from .ltx_places import Rotation, rotations, turned
from .ltx_words import Connector, words_of
from .ltxv import HEADS, MASKED, projected
from .patches import from_tokens, to_tokens
from .spec import Shapes

# A query or key is brought to one length with this much added, as ComfyUI has it; diffusers has a tenth of it.
EPSILON = 1e-5
# Parameters that the module has under the checkpoint's own names.
OWN_NAMES = ("video_embeddings_connector.", "audio_embeddings_connector.")
AUDIO_CHANNELS = 8


def config_of(shapes: Shapes) -> dict[str, Any]:
    width, channels = need(shapes, "patchify_proj.weight")
    audio_width, audio_channels = need(shapes, "audio_patchify_proj.weight")
    block = "transformer_blocks.0."
    return {
        "in_channels": channels,
        "out_channels": need(shapes, "proj_out.weight")[0],
        "num_attention_heads": HEADS,
        "attention_head_dim": width // HEADS,
        "cross_attention_dim": need(shapes, f"{block}attn2.to_k.weight")[1],
        "gated_attn": f"{block}attn1.to_gate_logits.weight" in shapes,
        "cross_attn_mod": f"{block}prompt_scale_shift_table" in shapes,
        "audio_in_channels": audio_channels,
        "audio_out_channels": need(shapes, "audio_proj_out.weight")[0],
        "audio_num_attention_heads": HEADS,
        "audio_attention_head_dim": audio_width // HEADS,
        "audio_cross_attention_dim": need(shapes, f"{block}audio_attn2.to_k.weight")[1],
        "audio_gated_attn": f"{block}audio_attn1.to_gate_logits.weight" in shapes,
        "audio_cross_attn_mod": f"{block}audio_prompt_scale_shift_table" in shapes,
        "num_layers": count(shapes, "transformer_blocks"),
        "caption_channels": shapes.get("caption_projection.linear_1.weight", (0, 0))[1],
        "rope_type": "split",
        "use_prompt_embeddings": "caption_projection.linear_2.weight" in shapes,
        "ff_bias": f"{block}ff.net.2.bias" in shapes,
        "audio_ff_bias": f"{block}audio_ff.net.2.bias" in shapes,
        "use_prompt_adaln_single": "prompt_adaln_single.linear.weight" in shapes,
        "use_keyframes_abs_pos_embedding": "keyframes_abs_pos_embedding" in shapes,
    }


def build(config: Mapping[str, Any], shapes: Shapes) -> nn.Module:
    from diffusers import LTX2VideoTransformer3DModel

    with torch.device("meta"):
        module = LTX2VideoTransformer3DModel(**config)
        for name in OWN_NAMES:
            if any(key.startswith(name) for key in shapes):
                setattr(module, name[:-1], Connector(shapes, name))
        if not config["use_prompt_embeddings"] and "caption_projection.linear_1.weight" in shapes:
            # Words pass it before the connectors; see ltx_words.py.
            for name in ("caption_projection", "audio_caption_projection"):
                rows, columns = need(shapes, f"{name}.linear_1.weight")
                setattr(module, name, nn.ModuleDict({"linear_1": nn.Linear(columns, rows)}))
    return module


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    for name in ("rope", "audio_rope", "cross_attn_rope", "cross_attn_audio_rope"):
        setattr(module, name, None)
    for one in module.modules():
        if type(one).__name__ == "LTX2Attention":
            one.set_processor(Attention())
            for norm in norms_of(one):
                norm.eps = EPSILON
    for block in module.transformer_blocks:
        block.forward = MethodType(step, block)
    module.refit_tables = {}
    return module


class Attention:
    """Queries and keys are brought to one length over all heads, then turned, each by its own rotation; a gate weighs every head."""

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | Guides | None = None,
        query_rotary_emb: Rotation | None = None, key_rotary_emb: Rotation | None = None,
    ) -> Tensor:  # fmt: skip
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query_norm, key_norm = norms_of(attn)
        query, key = query_norm(attn.to_q(hidden_states)), key_norm(attn.to_k(seen))
        if query_rotary_emb is not None:
            query, key = turned(query, query_rotary_emb), turned(key, query_rotary_emb if key_rotary_emb is None else key_rotary_emb)
        query, key, value = (part.unflatten(-1, (attn.heads, -1)) for part in (query, key, attn.to_v(seen)))
        mixed = attention_mask.mixed(query, key, value) if isinstance(attention_mask, Guides) else mix(query, key, value, attention_mask)
        if attn.to_gate_logits is not None:
            gates = 2 * torch.sigmoid(attn.to_gate_logits(hidden_states))
            mixed = (mixed.unflatten(-1, (attn.heads, -1)) * gates[..., None]).flatten(2)
        return attn.to_out[0](mixed)


def norms_of(attn: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Of queries and keys; the connectors have them under the checkpoint's names."""
    return (attn.norm_q, attn.norm_k) if hasattr(attn, "norm_q") else (attn.q_norm, attn.k_norm)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b], encoder_hidden_states [b, t, d], frame_rate [b]; optionally audio_sample [b, c, n, k], audio_timestep [b], a mask,
    settings and guides (ltx_guides.py).

    Or the words of a run: words [b, n, d] -> [b, t, d].
    """
    if "words" in inputs:
        return words_of(module, inputs)
    sample, audio = inputs["sample"], inputs.get("audio_sample")
    if audio is None:
        # One silent frame that video does not look at costs next to nothing.
        audio = sample.new_zeros(len(sample), AUDIO_CHANNELS, 1, module.config.audio_in_channels // AUDIO_CHANNELS)
    heard = "audio_sample" in inputs
    batch, _, frames, rows, columns = sample.shape
    tokens = module.proj_in(kept(inputs, to_tokens(sample, 1)))
    if module.config.use_keyframes_abs_pos_embedding:
        first = (torch.arange(frames * rows * columns, device=tokens.device) < rows * columns)[None, :, None].to(tokens.dtype)
        tokens = tokens + kept(inputs, first) * module.keyframes_abs_pos_embedding
    sounds = module.audio_proj_in(audio.transpose(1, 2).flatten(2))
    times = kept(inputs, inputs.get("token_timesteps", inputs["timestep"][:, None]))
    audio_time = inputs.get("audio_timestep", inputs["timestep"])
    audio_times = inputs.get("audio_token_timesteps", audio_time[:, None])
    changes, time, sound_time = _changes(module, times, audio_times, inputs, sample.dtype)
    words, audio_words = _words(module, inputs["encoder_hidden_states"], tokens.shape[-1])
    mask = inputs.get("attention_mask")
    mask = None if mask is None else ((1 - mask) * MASKED)[:, None, None]
    turns = rotations(module.refit_tables, inputs, (frames, rows, columns), audio.shape[2], tokens.shape[-1], sounds.shape[-1], HEADS)
    shared = Shared(changes, words, audio_words, turns, mask, guides_of(inputs, tokens.shape[1], tokens.dtype), heard)
    for block in module.transformer_blocks:
        tokens, sounds = block(tokens, sounds, shared)
    video = projected(tokens, time, module.scale_shift_table, module.norm_out, module.proj_out)
    video = put_back(inputs, video, frames * rows * columns)
    flat = from_tokens(video, rows, columns, 1, frames=frames).flatten(1)
    if not heard:
        return flat
    sound = projected(sounds, sound_time, module.audio_scale_shift_table, module.audio_norm_out, module.audio_proj_out)
    sound = sound.unflatten(-1, (AUDIO_CHANNELS, -1)).transpose(1, 2)
    return torch.cat([flat, sound.flatten(1)], dim=1)


def _changes(
    module: nn.Module, times: Tensor, audio_times: Tensor, inputs: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[Changes, Tensor, Tensor]:
    """What the blocks make of the times, and what the outputs of video and of audio do."""

    def of(layer: nn.Module, numbers: Tensor) -> list[Tensor]:
        found = layer(numbers.flatten(), batch_size=len(numbers), hidden_dtype=dtype)
        return [values.view(len(numbers), -1, values.shape[-1]) for values in found]

    # One stream looks at the other through a gate that goes by the other's largest time.
    gate = inputs["gate_scale"][:, None] if "gate_scale" in inputs else torch.ones_like(times[:, :1])
    change, time = of(module.time_embed, times * 1000)
    audio_change, audio_time = of(module.audio_time_embed, audio_times * 1000)
    largest, audio_largest = times.amax(dim=1, keepdim=True), audio_times.amax(dim=1, keepdim=True)
    tells = module.config.use_prompt_adaln_single and module.prompt_modulation
    changes = Changes(
        change,
        audio_change,
        of(module.av_cross_attn_video_scale_shift, times * 1000)[0],
        of(module.av_cross_attn_audio_scale_shift, audio_times * 1000)[0],
        of(module.av_cross_attn_video_a2v_gate, audio_largest * gate)[0],
        of(module.av_cross_attn_audio_v2a_gate, largest * gate)[0],
        of(module.prompt_adaln, largest * 1000)[0] if tells else None,
        of(module.audio_prompt_adaln, audio_largest * 1000)[0] if tells else None,
    )
    return changes, time, audio_time


def _words(module: nn.Module, words: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Words of video and of audio, which stand side by side."""
    if not module.config.use_prompt_embeddings:
        return words[..., :width], words[..., width:]
    video, audio = words.chunk(2, dim=-1)
    return module.caption_projection(video), module.audio_caption_projection(audio)
