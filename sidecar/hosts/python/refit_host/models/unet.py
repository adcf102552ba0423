"""UNet families (sd15, sd2, sdxl, refiner). Configuration and names are the graph exporter's, so graph and module agree."""

from __future__ import annotations

from types import MethodType
from typing import Any, Mapping

import torch
from torch import Tensor

from refit_graphs import unet_config
from refit_graphs.unet_names import diffusers_name

from .spec import Call, ModelSpec, Shapes, Source


def _build(plan: unet_config.UnetPlan) -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        module = UNet2DConditionModel(**plan.config).eval()
    if plan.y_width is not None:
        # The step brings the finished vector `y` (pooled text and size embedding), as every UI computes it.
        module.get_aug_embed = MethodType(lambda self, emb, encoder_hidden_states, added_cond_kwargs: self.add_embedding(added_cond_kwargs["y"]), module)
    return module


def _call(inputs: Mapping[str, Tensor]) -> Call:
    """sample [b, c, h, w], timestep [b], encoder_hidden_states [b, t, d], optionally y [b, k] and ControlNet residuals."""
    options: dict[str, Any] = {"return_dict": False}
    if "y" in inputs:
        options["added_cond_kwargs"] = {"y": inputs["y"]}
    if "mid_residual" in inputs:
        count = sum(name.startswith("down_residual_") for name in inputs)
        options["down_block_additional_residuals"] = tuple(inputs[f"down_residual_{i}"] for i in range(count))
        options["mid_block_additional_residual"] = inputs["mid_residual"]
    return (inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"]), options


def spec(shapes: Shapes) -> ModelSpec:
    """Raises refit_graphs' UnsupportedStructure where diffusers has no such network."""
    plan = unet_config.plan_unet(dict(shapes))
    return ModelSpec(
        family=plan.family,
        config=plan.config,
        build=lambda: _build(plan),
        sources={diffusers_name(name, plan.layers, plan.label_module): Source(name) for name in shapes},
        repeated=("BasicTransformerBlock", "ResnetBlock2D"),
        call=_call,
    )
