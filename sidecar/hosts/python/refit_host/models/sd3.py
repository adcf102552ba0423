"""SD3 and SD3.5 on a device: diffusers' module, walked block by block, because a ControlNet of ComfyUI may add something behind the last block, too."""

from __future__ import annotations

from typing import Mapping

from torch import Tensor, nn

from .controls import added, controls
from .patches import from_tokens


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w] with even sides, timestep [b] (0..1000), encoder_hidden_states [b, t, d], y [b, k].

    Optionally what ControlNets add: `block_controls` behind the blocks before the last, `last_control` behind that [b, patches, width].
    """
    sample, patch = inputs["sample"], module.config.patch_size
    blocks = module.transformer_blocks
    more = controls(inputs, "block_controls", len(blocks) - 1)
    behind = [*(more or [None] * (len(blocks) - 1)), inputs.get("last_control")]
    tokens = module.pos_embed(sample).contiguous()
    time = module.time_text_embed(inputs["timestep"], inputs["y"])
    words = module.context_embedder(inputs["encoder_hidden_states"])
    for block, one in zip(blocks, behind, strict=True):
        words, tokens = block(hidden_states=tokens, encoder_hidden_states=words, temb=time)
        if one is not None:
            tokens = added(tokens, one)
    out = module.proj_out(module.norm_out(tokens, time))
    return from_tokens(out, sample.shape[-2] // patch, sample.shape[-1] // patch, patch, channels_last=True)
