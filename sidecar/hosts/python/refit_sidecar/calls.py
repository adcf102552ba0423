"""A diffusers module's call in the words of an engine's step, and back. In: the arguments of a forward. Out: the tensors that a step takes; the answer in
the form that the forward gives. Never: an argument that a step cannot carry; such a call is the original's.

What a step takes: docs/develop/graphs.md. Sizes: sample [batch, channels, height, width], with frames before height for Wan.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Mapping

import torch
from torch import Tensor, nn

from .snapshot import NotServed

Given = dict[str, Any]
Steps = tuple[dict[str, Tensor], Callable[[Tensor], Tensor]]


class Calls:
    """For one module. Raises NotServed for a class whose calls are not known."""

    def __init__(self, module: nn.Module, original: type) -> None:
        self._module, self._original = module, original
        name = original.__name__
        if name not in KNOWN:
            raise NotServed(
                f'a running sidecar has no steps for {name} here; it has them for {", ".join(KNOWN)} (host="inprocess" serves any module)'
            )
        self._step = KNOWN[name]
        self._signature = inspect.signature(original.forward)
        #: How adapter files of the family name this module's layers.
        self.stem: Callable[[str], str] = _unet_stem if name == "UNet2DConditionModel" else _transformer_stem

    def inputs(self, args: tuple, kwargs: Mapping[str, Any]) -> tuple[dict[str, Tensor], Callable[[Tensor], Any]]:
        """Tensors by the names of the engine's inputs, and what makes the module's answer of the engine's."""
        bound = self._signature.bind(self._module, *args, **kwargs)
        bound.apply_defaults()
        given = {
            name: value
            for name, value in list(bound.arguments.items())[1:]
            if value is not self._signature.parameters[name].default or name == "return_dict"
        }
        return_dict = given.pop("return_dict", True)
        tensors, answer = self._step(self._module, given)
        left = [name for name, value in given.items() if value is not None and value != {}]
        if left:
            raise NotServed(f"a step of a running sidecar takes no {left[0]}")

        def whole(output: Tensor) -> Any:
            sample = answer(output)
            return self._form()(sample=sample) if return_dict else (sample,)

        return tensors, whole

    def _form(self) -> Callable[..., Any]:
        """The class of the forward's answer stands in the module that defines it."""
        import sys

        source = sys.modules[self._original.__module__]
        return getattr(source, "UNet2DConditionOutput", None) or source.Transformer2DModelOutput


def _times(given: Given, batch: int) -> Tensor:
    return _spread(torch.as_tensor(given.pop("timestep")), batch)


def _spread(value: Tensor, batch: int) -> Tensor:
    return value.float().reshape(-1).expand(batch) if value.numel() == 1 else value.float()


def _unet(module: Any, given: Given) -> Steps:
    sample = given.pop("sample")
    tensors = {"sample": sample, "timestep": _times(given, len(sample)), "encoder_hidden_states": given.pop("encoder_hidden_states")}
    added = given.pop("added_cond_kwargs", None)
    if added:
        if set(added) == {"text_embeds", "time_ids"}:
            places = module.add_time_proj(added["time_ids"].flatten()).reshape(len(added["text_embeds"]), -1)
            tensors["y"] = torch.cat([added["text_embeds"], places.to(added["text_embeds"].dtype)], dim=-1)
        else:
            raise NotServed(f"a step of a running sidecar takes no {', '.join(added)}")
    down, middle = given.pop("down_block_additional_residuals", None), given.pop("mid_block_additional_residual", None)
    if down is not None or middle is not None:
        raise NotServed("ControlNet residuals go through the original where a running sidecar serves")
    return tensors, lambda output: output


def _sd3(module: Any, given: Given) -> Steps:
    sample = given.pop("hidden_states")
    tensors = {"sample": sample, "timestep": _times(given, len(sample)), "encoder_hidden_states": given.pop("encoder_hidden_states")}
    return {**tensors, "y": given.pop("pooled_projections")}, lambda output: output


def _wan(module: Any, given: Given) -> Steps:
    sample = given.pop("hidden_states")
    tensors = {"sample": sample, "timestep": _times(given, len(sample)), "encoder_hidden_states": given.pop("encoder_hidden_states")}
    image = given.pop("encoder_hidden_states_image", None)
    return {**tensors, **({} if image is None else {"encoder_hidden_states_image": image})}, lambda output: output


def _rounded(value: Tensor, dtype: torch.dtype) -> Tensor:
    """What times 1000 is exactly what diffusers' own transformer computes in the type of its tokens."""
    return (value.to(dtype) * 1000).float() / 1000


def _flux(module: Any, given: Given) -> Steps:
    """Tokens of 2 x 2 cells become a picture; its sides stand in the positions."""
    tokens, places, words = given.pop("hidden_states"), given.pop("img_ids"), given.pop("txt_ids")
    places = places[0] if places.dim() == 3 else places
    rows, columns = int(places[:, 1].max()) + 1, int(places[:, 2].max()) + 1
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(places)
    if len(places) != rows * columns or bool(places[:, 0].any()) or not torch.equal(places[:, 1:], grid) or bool(words.any()):
        raise NotServed("positions of more than one picture go through the original where a running sidecar serves")
    batch, _, width = tokens.shape
    sample = tokens.view(batch, rows, columns, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(batch, width // 4, rows * 2, columns * 2)
    guidance = given.pop("guidance", None)
    timestep = _rounded(torch.as_tensor(given.pop("timestep")), tokens.dtype)
    tensors = {
        "sample": sample, "timestep": _spread(timestep, batch), "encoder_hidden_states": given.pop("encoder_hidden_states"), "y": given.pop("pooled_projections"),
        **({} if guidance is None else {"guidance": _rounded(guidance, tokens.dtype).expand(batch)}),
    }  # fmt: skip

    def packed(output: Tensor) -> Tensor:
        cells = output.view(batch, -1, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
        return cells.reshape(batch, rows * columns, -1)

    return tensors, packed


KNOWN: Mapping[str, Callable[[Any, Given], Steps]] = {
    "UNet2DConditionModel": _unet, "SD3Transformer2DModel": _sd3, "FluxTransformer2DModel": _flux, "WanTransformer3DModel": _wan,
}  # fmt: skip


def _unet_stem(name: str) -> str:
    return "lora_unet_" + name.replace(".", "_")


def _transformer_stem(name: str) -> str:
    return "transformer." + name
