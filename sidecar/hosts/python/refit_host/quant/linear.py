"""A linear layer over quantised weights. Where the device multiplies the format, activations are quantised per token at every step; elsewhere weights are dequantised.

A branch beside the product holds what rounding would have swallowed: x A B of the adapters that stay whole (branch.py).
"""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..rotation import rotate
from . import fp8, int8
from .branch import Branch
from .formats import Format
from .product import int8_product, quantise_tokens

# How a step multiplies. `rowwise`: fp8, scales inside the product; `unit`: plain fp8 product, scales applied to its result (the compiler joins that with what follows); `integer`:
# int8, scales applied to its result; `dequantise`: weights become bf16 again, for cards and formats without a product.
WAYS = ("rowwise", "unit", "integer", "dequantise")
# Ada and newer multiply fp8; Turing and newer int8.
FP8_CAPABILITY, INT8_CAPABILITY = (8, 9), (7, 5)


def best_way(form: Format, device: torch.device, dtype: torch.dtype) -> str:
    """The format's own product where the device has one and PyTorch gives bf16 out of it, else `dequantise`."""
    if device.type != "cuda" or torch.version.hip is not None or dtype != torch.bfloat16:
        return "dequantise"
    capability = torch.cuda.get_device_capability(device)
    if form.name == "fp8" and capability >= FP8_CAPABILITY:
        return "rowwise"
    return "integer" if form.name == "int8" and capability >= INT8_CAPABILITY else "dequantise"


class QuantLinear(nn.Module):
    """`parts`: views of the engine's codes and scales for these rows; `bias` in the engine's dtype or None; `rotation`: groups of columns that are turned (0: none)."""

    def __init__(
        self,
        form: Format,
        parts: Mapping[str, Tensor],
        bias: nn.Parameter | None,
        way: str,
        rotation: int = 0,
        branch: Branch | None = None,
    ) -> None:
        super().__init__()
        self.form, self.way, self.rotation = form, way, rotation
        self.names = tuple(parts)
        for name, value in parts.items():
            self.register_buffer(name, value, persistent=False)
        self.branched = branch is not None
        if branch is not None:
            for name, value in branch._asdict().items():
                self.register_buffer(f"branch_{name}", value, persistent=False)
        self.register_parameter("bias", bias)

    @property
    def code_dtype(self) -> torch.dtype | None:
        """Of activations that `product` takes; None where it must see them as they are."""
        if self.rotation:
            return None
        return {"rowwise": fp8.CODE, "integer": int8.CODE}.get(self.way)

    def forward(self, value: Tensor) -> Tensor:
        """[..., cols] to [..., rows], same dtype."""
        flat = value.reshape(-1, value.shape[-1])
        if self.rotation:
            flat = rotate(flat, self.rotation)
        if self.way == "dequantise":
            weight = self.form.decode({name: getattr(self, name) for name in self.names}).to(value.dtype)
            out = functional.linear(flat, weight, self.bias)
            if self.branched:
                out = out + (flat @ self.branch_down.t()) @ self.branch_up.t()
        else:
            out = self.product(*quantise_tokens(flat, int8.CODE if self.way == "integer" else fp8.CODE))
        return out.view(*value.shape[:-1], -1)

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Of activations that are codes already (and turned where the weight is): [tokens, cols] with scales [tokens, 1] to [tokens, rows] in bf16."""
        branch = Branch(self.branch_down, self.branch_scale, self.branch_up) if self.branched else None
        if self.way == "integer":
            return int8_product(codes, self.codes, scale, self.scale, self.bias, branch)
        if self.way == "rowwise":
            out = torch._scaled_mm(
                codes,
                self.codes.t(),
                scale_a=scale,
                scale_b=self.scale.view(1, -1),
                bias=self.bias,
                out_dtype=torch.bfloat16,
                use_fast_accum=True,
            )
        else:
            one = torch.ones((), device=codes.device)
            out = torch._scaled_mm(codes, self.codes.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)
            out = out.float() * scale * self.scale.view(1, -1)
            out = (out if self.bias is None else out + self.bias.float()).to(torch.bfloat16)
        if branch is None:
            return out
        # The first factor is two sets of codes, coarse and fine, so that it reads the activations as they are.
        first = torch._scaled_mm(codes, branch.down.t(), scale_a=scale, scale_b=branch.scale.view(1, -1), out_dtype=torch.bfloat16)
        # In place: another tensor would be a pass over memory more.
        return out.addmm_(first, branch.up.t())
