"""Two-stream blocks, then single ones, on a device: packing, positions and the scaled timestep outside the graph exporter's trace.

Queries, keys and values have one projection: the checkpoint stores them as one matrix, so the arena's view of it is bound as it is.
Fewer and larger products, and (quantised) one conversion of their shared input.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from torch import Tensor, nn

from .attention import one_projection
from .controls import as_long, controls
from .patches import from_tokens, grid, padded, to_tokens
from .references import beside_each_other, references
from .rotation import Frequencies, cos_sin

# As in the graph exporter's module of this family; a test compares both with diffusers' own class.
PATCH = 2
THETA = 10000
FUSED = "two_streams"


def adapt(module: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    frequencies = Frequencies(tuple(config["axes_dims_rope"]), THETA)

    def rotation(_: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
        return cos_sin([ids[:, axis, None] * values for axis, values in enumerate(frequencies.on(ids.device))])

    module.pos_embed.forward = MethodType(rotation, module.pos_embed)
    embed = module.time_text_embed.forward
    # diffusers rounds timestep and guidance to the float type before it scales them by 1000; in f16 that would move them by up to half a step.
    module.time_text_embed.forward = lambda *given: embed(*module.refit_times, given[-1])
    return one_projection(module)


def forward(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """sample [b, c, h, w], timestep [b] (0..1), encoder_hidden_states [b, t, d], y [b, k], optionally guidance [b], reference latents [1 or b, c, h, w] and
    what ControlNets add behind double and single blocks [b, patches, width].
    """
    sample, context = inputs["sample"], inputs["encoder_hidden_states"]
    height, width = sample.shape[-2:]
    others = references(inputs)
    places = [(0, 0, 0), *((1, *place) for place in beside_each_other(others, PATCH))]
    pictures = [padded(picture, PATCH) for picture in (sample, *others)]
    rows, columns = pictures[0].shape[-2] // PATCH, pictures[0].shape[-1] // PATCH
    ids = torch.cat([_ids(picture, place) for picture, place in zip(pictures, places, strict=True)])
    guidance = inputs.get("guidance")
    times = [inputs["timestep"] * 1000, *([] if guidance is None else [guidance * 1000])]
    module.refit_times = times
    tokens = torch.cat([to_tokens(picture, PATCH) for picture in pictures], dim=1)
    double = controls(inputs, "double_controls", len(module.transformer_blocks))
    single = controls(inputs, "single_controls", len(module.single_transformer_blocks))
    out = type(module).forward(
        module, tokens, context, inputs["y"], inputs["timestep"], img_ids=ids, txt_ids=torch.zeros(context.shape[1], 3, device=sample.device),
        guidance=guidance, return_dict=False, controlnet_block_samples=double and [as_long(one, tokens.shape[1]) for one in double],
        controlnet_single_block_samples=single and [as_long(one, tokens.shape[1]) for one in single],
    )[0]  # fmt: skip
    return from_tokens(out[:, : rows * columns], rows, columns, PATCH)[..., :height, :width]


def _ids(picture: Tensor, place: tuple[int, int, int]) -> Tensor:
    """(number of the picture, row, column) of each patch, counted from where the picture begins."""
    row, column = grid(picture.shape[-2] // PATCH, picture.shape[-1] // PATCH, picture.device)
    return torch.stack([torch.full_like(row, place[0]), row + place[1], column + place[2]], dim=-1)
