"""The network of a setting as a user of diffusers has it: diffusers' own class, attention and call; weights of its own, read from the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Sequence

import torch
from diffusers import UNet2DConditionModel
from refit_graphs.families import plan
from refit_host.models.registry import sources_of
from safetensors.torch import load_file

from .setting import Setting


class PlainUnet:
    """Nothing of the host's but the table of names."""

    def __init__(self, setting: Setting, device: torch.device) -> None:
        found = plan(dict(setting.shapes))
        with torch.device("meta"):
            module = UNet2DConditionModel(**found.config)
        if "y" in setting.inputs:
            # diffusers makes `y` from pooled text and numbers; a step brings it finished, as every UI does.
            module.get_aug_embed = lambda emb, encoder_hidden_states, added_cond_kwargs: module.add_embedding(added_cond_kwargs["y"])
        self._device, self._dtype = device, setting.float_type
        # torch's own `to`: diffusers' warns of layers that it would keep in f32, and a UNet has none.
        self._module = torch.nn.Module.to(module.to_empty(device=device), self._dtype).eval()
        self._parameters = {source.parameter: self._module.get_parameter(name) for name, source in sources_of(found).items()}
        self._file = setting.checkpoints[0]["files"][0]["path"]
        self.merge([])

    def merge(self, stack: Sequence[tuple[Path, str, float]]) -> None:
        """The checkpoint's weights with a stack of the bench's adapters merged in f32 and rounded once."""
        values = load_file(self._file)
        files = [(load_file(path), strength) for path, _, strength in stack]
        for name, parameter in self._parameters.items():
            value = values[name].to(self._device).to(self._dtype)
            if any(f"{name}.up" in file for file, _ in files):
                value = value.float()
                for file, strength in files:
                    up, down = (file[f"{name}.{role}"].to(self._device).float() for role in ("up", "down"))
                    value += (strength * 0.5) * (up @ down).view(value.shape)
            parameter.copy_(value)

    def __call__(self, inputs: Mapping[str, torch.Tensor], residuals: Mapping[str, torch.Tensor] | None = None) -> torch.Tensor:
        """The output on the host."""
        here = {name: value.to(self._device) for name, value in inputs.items()}
        options = {"added_cond_kwargs": {"y": here["y"]}} if "y" in here else {}
        if residuals is not None:
            *down, middle = (value.to(self._device) for value in residuals.values())
            options |= {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
        return self._module(here["sample"], here["timestep"], here["encoder_hidden_states"], **options, return_dict=False)[0].cpu()
