"""UNet families: a diffusers module on the meta device, ready to be traced. In: canonical shapes. Out: an Exportable."""

from __future__ import annotations

from types import MethodType

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from .exportable import Exportable, Target, connect
from .header import Shapes
from .unet_config import UnetPlan, plan_unet
from .unet_names import diffusers_name
from .weightless import DataInput, Run

# Odd on purpose: only then does diffusers hand each upsampler the size of its skip connection, which is right for every height and width.
TRACE_SIZES = {"batch": 2, "height": 17, "width": 19, "tokens": 77}


class PlainAttention:
    """Attention with head counts as constants, so the graph computes no scales or head sizes from shapes. A diffusers attention processor.

    `upcast`: scores in f32, for families whose scores leave the range of f16.
    """

    def __init__(self, upcast: bool) -> None:
        self._upcast = upcast

    def __call__(
        self, attn: nn.Module, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **_: object
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        batch, width, heads = hidden_states.shape[0], attn.inner_dim, attn.heads

        def split(values: torch.Tensor) -> torch.Tensor:
            return values.reshape(batch, -1, heads, width // heads).transpose(1, 2)

        query, key, value = split(attn.to_q(hidden_states) * attn.scale), split(attn.to_k(context)), split(attn.to_v(context))
        if self._upcast:
            query, key = query.float(), key.float()
        mixed = (query @ key.transpose(-1, -2)).softmax(-1).to(value.dtype) @ value
        return attn.to_out[0](mixed.transpose(1, 2).reshape(batch, -1, width))


def exportable(shapes: Shapes) -> Exportable:
    """Raises UnsupportedStructure when the header describes no UNet that diffusers can build."""
    plan = plan_unet(shapes)
    weights, refit_map = connect(shapes, lambda name, _shape: [Target(diffusers_name(name, plan.layers, plan.label_module))], _build(plan))
    return Exportable(
        family=plan.family,
        file_stem="unet",
        config=plan.config,
        build=lambda: _build(plan),
        weights=weights,
        inputs=tuple(step_inputs(plan)),
        residuals=tuple(residual_inputs(plan)),
        output=DataInput("out_sample", ("batch", plan.config["out_channels"], "height", "width")),
        trace_sizes=trace_sizes(plan),
        run=unet_run(plan),
        refit_map=refit_map,
    )


def _build(plan: UnetPlan) -> UNet2DConditionModel:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**plan.config).eval()
    unet.set_attn_processor(PlainAttention(plan.upcast_attention))
    if plan.y_width is not None:
        # The step brings the finished vector `y` (pooled text and size embedding), as every UI computes it.
        unet.get_aug_embed = MethodType(
            lambda self, emb, encoder_hidden_states, added_cond_kwargs: self.add_embedding(added_cond_kwargs["y"]), unet
        )
    return unet


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


def unet_run(plan: UnetPlan) -> Run:
    """Calls the module with the data tensors in the order of the graph's inputs."""

    def run(unet: UNet2DConditionModel, *tensors: torch.Tensor) -> torch.Tensor:
        count = 3 if plan.y_width is None else 4
        options: dict[str, object] = {"return_dict": False}
        if plan.y_width is not None:
            options["added_cond_kwargs"] = {"y": tensors[3]}
        if residuals := tensors[count:]:
            options["down_block_additional_residuals"] = tuple(residuals[:-1])
            options["mid_block_additional_residual"] = residuals[-1]
        return unet(*tensors[:3], **options)[0]

    return run
