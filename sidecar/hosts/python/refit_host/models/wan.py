"""Wan on a device: rotary positions from frequencies that stay there, latents of any size, frames with times of their own, VACE's control videos, Animate's pose and face.

VACE and Animate have no graph: `config_of` and `build` are for their structures alone.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from refit_graphs import wan
from refit_graphs.wan import THETA
from torch import Tensor

from ..failure import HostFailure
from . import wan_animate
from .configuration import count, need
from .patches import padded
from .rotation import Frequencies, cos_sin, places_of
from .spec import Shapes

FUSED = "wan"
# Animate's files hold the numbers of a blur, which are the same in all of them.
LEFT_OUT = r".*\.kernel"


def config_of(shapes: Shapes) -> dict[str, Any]:
    config = wan.config_of(dict(shapes))
    if "pose_patch_embedding.weight" in shapes:
        return {**config, **wan_animate.config_of(shapes)}
    if "vace_patch_embedding.weight" not in shapes:
        raise HostFailure(
            "HOST_GRAPH_INVALID", "expected VACE's control blocks or Animate's face blocks: this structure is not supported without a graph"
        )
    layers, controls = config["num_layers"], count(shapes, "vace_blocks")
    # As ComfyUI spreads them: every so many blocks, from the first on.
    where = list(range(0, layers, max(1, layers // controls)))[:controls]
    return {**config, "vace_layers": where, "vace_in_channels": need(shapes, "vace_patch_embedding.weight")[1]}


def build(config: Mapping[str, Any], shapes: Shapes) -> torch.nn.Module:
    from diffusers import WanVACETransformer3DModel

    if "motion_dim" in config:
        return wan.with_attention(wan_animate.build(config))
    with torch.device("meta"):
        module = WanVACETransformer3DModel(**config)
    return wan.with_attention(module)


def adapt(module: torch.nn.Module, config: Mapping[str, Any]) -> torch.nn.Module:
    head, patch = config["attention_head_dim"], config["patch_size"]
    side = 2 * (head // 6)
    frequencies = Frequencies((head - 2 * side, side, side), THETA)

    def rotation(_: torch.nn.Module, sample: Tensor) -> tuple[Tensor, Tensor]:
        sizes = tuple(sample.shape[2 + axis] // patch[axis] for axis in range(3))
        return cos_sin([places_of(sizes, frequencies.on(sample.device))])

    # diffusers' own tables (on the meta device here) give way to the frequencies above.
    module.rope._buffers.clear()
    module.rope.forward = MethodType(rotation, module.rope)
    return module


def forward(module: torch.nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, f, h, w], timestep [b] (0..1000), encoder_hidden_states [b, t, d]; encoder_hidden_states_image [b, i, k] where the structure has it.

    frame_timesteps [b, f]: the time of each frame, where some are given (Wan 2.2 5B with a first picture); `timestep` is not looked at then.
    VACE: vace_context [b, n, k, f, h, w], n control videos, and vace_strength [b, n].
    Animate: pose_latents [b, k, g, h, w] and face_pixel_values [b, 3, n, s, s], each where it is given.
    """
    height, width = inputs["sample"].shape[-2:]
    sample = padded(inputs["sample"], module.config.patch_size[-1])
    image = inputs.get("encoder_hidden_states_image")
    for block in module.blocks:
        block.attn2.processor.image_tokens = 0 if image is None else image.shape[1]
    turned = module.rope(sample)
    tokens = wan_animate.with_pose(module, module.patch_embedding(sample), inputs)
    sizes = tokens.shape[2:]
    faces = wan_animate.faces_of(module, inputs, sizes[0])
    tokens = tokens.flatten(2).transpose(1, 2).contiguous()
    times = inputs.get("frame_timesteps", inputs["timestep"][:, None])
    time, modulation, words, seen = module.condition_embedder(
        times.flatten(), inputs["encoder_hidden_states"], image, timestep_seq_len=times.shape[1]
    )
    words = words if seen is None else torch.cat([seen, words], dim=1)
    modulation = modulation.unflatten(2, (6, -1))
    hints = _hints(module, inputs, tokens, words, modulation, turned)
    modulation = _of_tokens(modulation, sizes)
    for number, block in enumerate(module.blocks):
        tokens = block(tokens, words, modulation, turned)
        if number in hints:
            tokens = tokens + hints[number]
        tokens = wan_animate.look(module, number, tokens, faces)
    shift, scale = _of_tokens(module.scale_shift_table[None] + time[:, :, None], sizes).unbind(2)
    tokens = module.proj_out((module.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens))
    cells = tokens.unflatten(1, sizes).unflatten(-1, (*module.config.patch_size, -1))
    return cells.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)[..., :height, :width]


def _hints(
    module: torch.nn.Module, inputs: Mapping[str, Tensor], tokens: Tensor, words: Tensor, modulation: Tensor, turned: object
) -> dict[int, Tensor]:
    """What control videos add behind blocks: block number -> [b, tokens, d]."""
    if "vace_context" not in inputs:
        return {}
    if modulation.shape[1] != 1:
        raise HostFailure("HOST_INPUT_INVALID", "expected one time for all frames beside control videos, got frame_timesteps")
    videos, strengths = padded(inputs["vace_context"].flatten(0, 1), module.config.patch_size[-1]), inputs["vace_strength"].to(tokens.dtype)
    videos = module.vace_patch_embedding(videos).flatten(2).transpose(1, 2).unflatten(0, (-1, strengths.shape[1]))
    hints: dict[int, Tensor] = {}
    for video, strength in zip(videos.unbind(1), strengths.unbind(1), strict=True):
        for number, block in zip(module.config.vace_layers, module.vace_blocks, strict=True):
            hint, video = block(tokens, words, video, modulation[:, 0], turned)
            hint = hint * strength[:, None, None]
            hints[number] = hints[number] + hint if number in hints else hint
    return hints


def _of_tokens(frames: Tensor, sizes: torch.Size) -> Tensor:
    """[b, f, ...] -> [b, f * rows * columns, ...]; one frame stands for all."""
    return frames if frames.shape[1] == 1 else frames.repeat_interleave(sizes[1] * sizes[2], dim=1)
