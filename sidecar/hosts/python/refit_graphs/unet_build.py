"""UNet families: a diffusers module on the meta device, ready to be traced. In: a UnetPlan. Out: module, parameter names, step inputs and the call."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from .errors import UnsupportedStructure
from .header import Shapes
from .unet_config import UnetPlan
from .unet_names import diffusers_name
from .weightless import DataInput

# Odd on purpose: only then does diffusers hand each upsampler the size of its skip connection, which is right for every height and width.
TRACE_SIZES = {"batch": 2, "height": 17, "width": 19, "tokens": 77}


class PlainAttention:
    """Attention with head counts as constants, so the graph computes no scales or head sizes from shapes. A diffusers attention processor.

    `upcast`: scores in f32, for families whose scores leave the range of f16.
    """

    def __init__(self, upcast: bool) -> None:
        self._upcast = upcast

    def __call__(self, attn: nn.Module, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **_: object) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        batch, width, heads = hidden_states.shape[0], attn.inner_dim, attn.heads

        def split(values: torch.Tensor) -> torch.Tensor:
            return values.reshape(batch, -1, heads, width // heads).transpose(1, 2)

        query, key, value = split(attn.to_q(hidden_states) * attn.scale), split(attn.to_k(context)), split(attn.to_v(context))
        if self._upcast:
            query, key = query.float(), key.float()
        mixed = (query @ key.transpose(-1, -2)).softmax(-1).to(value.dtype) @ value
        return attn.to_out[0](mixed.transpose(1, 2).reshape(batch, -1, width))


def build_unet(plan: UnetPlan, shapes: Shapes) -> tuple[UNet2DConditionModel, dict[str, str]]:
    """Returns the module (meta device) and its parameter names -> canonical names. Raises UnsupportedStructure when a shape differs."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**plan.config).eval()
    names = {diffusers_name(name, plan.layers, plan.label_module): name for name in shapes}
    built = {name: tuple(tensor.shape) for name, tensor in unet.named_parameters()}
    wanted = {name: shapes[canonical] for name, canonical in names.items()}
    if built != wanted:
        odd = sorted(name for name in built.keys() | wanted.keys() if built.get(name) != wanted.get(name))
        first = odd[0]
        raise UnsupportedStructure(
            f"expected the network that the header describes, diffusers built another one: {len(odd)} parameters differ, "
            f"first {names.get(first, first)} (header {wanted.get(first)}, built {built.get(first)}): this structure is not supported"
        )
    unet.set_attn_processor(PlainAttention(plan.upcast_attention))
    if plan.y_width is not None:
        # The step brings the finished vector `y` (pooled text and size embedding), as every UI computes it.
        unet.get_aug_embed = MethodType(lambda self, emb, encoder_hidden_states, added_cond_kwargs: self.add_embedding(added_cond_kwargs["y"]), unet)
    return unet, names


def step_inputs(plan: UnetPlan) -> list[DataInput]:
    inputs = [
        DataInput("sample", ("batch", plan.config["in_channels"], "height", "width")),
        DataInput("timestep", ("batch",), float_type=False),
        DataInput("encoder_hidden_states", ("batch", "tokens", plan.context_width)),
    ]
    return inputs if plan.y_width is None else [*inputs, DataInput("y", ("batch", plan.y_width))]


def residual_inputs(plan: UnetPlan) -> list[DataInput]:
    """ControlNet residuals: one per skip connection in the order the way down makes them, then the middle's."""
    widths, inputs = plan.config["block_out_channels"], []

    def add(name: str, width: int, level: int) -> None:
        suffix = "" if level == 0 else f"_{2**level}"
        inputs.append(DataInput(name, ("batch", width, f"height{suffix}", f"width{suffix}")))

    add("down_residual_0", widths[0], 0)
    for level, count in enumerate(plan.layers):
        last = level == len(plan.layers) - 1
        for place in range(count if last else count + 1):
            add(f"down_residual_{len(inputs)}", widths[level], level + (place == count))
    add("mid_residual", widths[-1], len(widths) - 1)
    return inputs


def trace_sizes(plan: UnetPlan) -> dict[str, int]:
    sizes = dict(TRACE_SIZES)
    for level in range(1, len(plan.layers)):
        for axis in ("height", "width"):
            sizes[f"{axis}_{2**level}"] = -(-TRACE_SIZES[axis] // 2**level)
    return sizes


def unet_call(plan: UnetPlan) -> Callable[..., tuple]:
    """Data tensors in the order of the graph's inputs -> arguments of the diffusers module."""

    def call(*tensors: torch.Tensor) -> tuple:
        count = 3 if plan.y_width is None else 4
        sample, timestep, context = tensors[:3]
        options: dict[str, object] = {"return_dict": False}
        if plan.y_width is not None:
            options["added_cond_kwargs"] = {"y": tensors[3]}
        if residuals := tensors[count:]:
            options["down_block_additional_residuals"] = tuple(residuals[:-1])
            options["mid_block_additional_residual"] = residuals[-1]
        return (sample, timestep, context), options

    return call
