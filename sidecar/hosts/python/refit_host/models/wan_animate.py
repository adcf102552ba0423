"""Wan Animate beside Wan's blocks: a pose video added to the tokens, and a face video that every fifth block looks at, frame by frame.

The face video is in pixels. Its motion is encoded anew in every step, as ComfyUI does it; that is less than a hundredth of a step.
"""

from __future__ import annotations

import re
from typing import Any, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..failure import HostFailure
from .attention import mix
from .configuration import count, need
from .patches import padded
from .spec import Shapes

EVERY = 5
# Faces at a time: their largest maps are half a million cells of 32 channels each.
AT_ONCE = 8
SMALLEST = 4


def config_of(shapes: Shapes) -> dict[str, Any]:
    """What the structure has beside Wan's own configuration."""
    convs = "motion_encoder.enc.net_app.convs"
    blocks = max(
        (int(found[1]) for name in shapes if (found := re.match(rf"{re.escape(convs)}\.(\d+)\.conv1\.0\.weight", name))), default=0
    )
    size = SMALLEST * 2**blocks
    widths = [need(shapes, f"{convs}.0.0.weight")[0], *(need(shapes, f"{convs}.{n}.conv2.1.weight")[0] for n in range(1, blocks + 1))]
    inner, motion, _ = need(shapes, "face_encoder.conv1_local.conv.weight")
    hidden = need(shapes, "face_encoder.conv2.conv.weight")[0]
    return {
        "latent_channels": need(shapes, "pose_patch_embedding.weight")[1],
        "motion_encoder_channel_sizes": {str(size >> n): width for n, width in enumerate(widths)},
        "motion_encoder_size": size,
        "motion_style_dim": need(shapes, f"{convs}.{blocks + 1}.weight")[0],
        "motion_dim": need(shapes, "motion_encoder.dec.direction.weight")[1],
        "motion_encoder_dim": motion,
        "face_encoder_hidden_dim": hidden,
        "face_encoder_num_heads": inner // hidden,
        "inject_face_latents_blocks": _every(shapes),
    }


def _every(shapes: Shapes) -> int:
    layers, looking = count(shapes, "blocks"), count(shapes, "face_adapter.fuser_blocks")
    if layers // EVERY != looking or (layers - 1) // EVERY >= looking:
        raise HostFailure(
            "HOST_GRAPH_INVALID",
            f"expected {layers // EVERY} face blocks beside {layers} blocks, a multiple of {EVERY}, found {looking}: this structure is not supported",
        )
    return EVERY


def build(config: Mapping[str, Any]) -> nn.Module:
    from diffusers import WanAnimateTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

    with torch.device("meta"):
        module = WanAnimateTransformer3DModel(**config)
    for block in module.blocks:
        # The same code, of which diffusers has a copy for this model.
        block.__class__ = WanTransformerBlock
    for conv in module.motion_encoder.modules():
        # The same numbers in every file; they are computed where they are needed.
        conv._buffers.pop("blur_kernel", None)
    return module


def with_pose(module: nn.Module, tokens: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """tokens [b, d, f, h, w]: pose_latents [b, c, g, h, w] are added from the second frame on, as many as there are."""
    if "pose_latents" not in inputs:
        return tokens
    frames = tokens.shape[2]
    pose = module.pose_patch_embedding(padded(inputs["pose_latents"], module.config.patch_size[-1]))[:, :, : frames - 1]
    return tokens + functional.pad(pose, (0, 0, 0, 0, 1, frames - 1 - pose.shape[2]))


def faces_of(module: nn.Module, inputs: Mapping[str, Tensor], frames: int) -> Tensor | None:
    """What the face video shows for each frame: face_pixel_values [b, 3, n, s, s] -> [b, frames, heads + 1, d]. Frames that it has nothing for see zeros."""
    if "face_pixel_values" not in inputs:
        return None
    pixels, size = inputs["face_pixel_values"], module.config.motion_encoder_size
    if tuple(pixels.shape[-2:]) != (size, size):
        raise HostFailure(
            "HOST_INPUT_INVALID", f"expected face_pixel_values of {size} x {size} pixels, got {pixels.shape[-2]} x {pixels.shape[-1]}"
        )
    each = pixels.transpose(1, 2)
    motion = torch.cat([_motion(module.motion_encoder, some) for some in each.flatten(0, 1).split(AT_ONCE)])
    seen = functional.pad(module.face_encoder(motion.unflatten(0, each.shape[:2])), (0, 0, 0, 0, 1, 0))[:, :frames]
    return functional.pad(seen, (0, 0, 0, 0, 0, frames - seen.shape[1]))


def look(module: nn.Module, number: int, tokens: Tensor, faces: Tensor | None) -> Tensor:
    """tokens [b, f * cells, d] behind block `number`; those of a frame look at that frame's face."""
    if faces is None or number % EVERY:
        return tokens
    block, (batch, frames, marks, _) = module.face_adapter[number // EVERY], faces.shape
    heads = (block.heads, -1)
    asking, given = block.pre_norm_q(tokens), block.pre_norm_kv(faces).flatten(1, 2)
    query = block.norm_q(block.to_q(asking).unflatten(-1, heads)).unflatten(1, (frames, -1)).flatten(0, 1)
    key = block.norm_k(block.to_k(given).unflatten(-1, heads)).unflatten(1, (frames, marks)).flatten(0, 1)
    value = block.to_v(given).unflatten(-1, heads).unflatten(1, (frames, marks)).flatten(0, 1)
    return tokens + block.to_out(mix(query, key, value).unflatten(0, (batch, frames)).flatten(1, 2))


def _motion(encoder: nn.Module, faces: Tensor) -> Tensor:
    """faces [n, 3, s, s] -> [n, k]: how the face moves, along directions that are orthogonal."""
    at = torch.arange(4, device=faces.device)
    blur = ((at > 0) & (at < 3)) * 2.0 + 1  # 1, 3, 3, 1
    kernel = (torch.outer(blur, blur) / blur.sum() ** 2).to(faces.dtype)
    seen = _conv(encoder.conv_in, faces, kernel)
    for block in encoder.res_blocks:
        seen = (_conv(block.conv2, _conv(block.conv1, seen, kernel), kernel) + _conv(block.conv_skip, seen, kernel)) / 2**0.5
    motion = _conv(encoder.conv_out, seen, kernel).flatten(1)
    for layer in encoder.motion_network:
        motion = layer(motion, channel_dim=1)
    return (motion.float() @ orthogonal(encoder.motion_synthesis_weight).T).to(faces.dtype)


def _conv(conv: Any, seen: Tensor, kernel: Tensor) -> Tensor:
    if conv.blur:
        channels = seen.shape[1]
        seen = functional.conv2d(seen, kernel.expand(channels, 1, *kernel.shape), padding=conv.blur_padding, groups=channels)
    seen = functional.conv2d(seen, conv.weight * conv.scale, conv.bias, stride=conv.stride, padding=conv.padding)
    return seen if conv.act_fn is None else conv.act_fn(seen, channel_dim=1)


def orthogonal(weight: Tensor) -> Tensor:
    """[n, k], k <= n -> f32 [n, k] with orthogonal columns: the Q of LAPACK's QR, signs included. By Householder's reflections alone, which a CUDA graph can hold."""
    rows, columns = weight.shape
    one = torch.eye(rows, columns, device=weight.device)
    rest, mirrors = weight.float() + 1e-8 * one, []
    for column in range(columns):
        mirror = functional.pad(rest[column:, column], (column, 0))
        length = torch.linalg.vector_norm(mirror)
        mirror = mirror + one[:, column] * torch.where(mirror[column] < 0, -length, length)
        mirror = mirror / torch.linalg.vector_norm(mirror)
        mirrors.append(mirror)
        rest = rest - 2 * torch.outer(mirror, mirror @ rest)
    for mirror in reversed(mirrors):
        one = one - 2 * torch.outer(mirror, mirror @ one)
    return one
