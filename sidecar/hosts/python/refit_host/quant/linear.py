"""A linear layer over quantised weights. Activations of fp8 are quantised per token at every step; elsewhere weights are dequantised."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .formats import Format
from .fp8 import CODE, LIMIT, SMALLEST_SCALE

# How a step multiplies. `rowwise`: scales inside the product; `unit`: plain fp8 product, scales applied to its result (the compiler
# joins that with what follows); `dequantise`: weights become bf16 again, for cards and formats without a product.
WAYS = ("rowwise", "unit", "dequantise")
# Ada and newer multiply fp8.
FP8_CAPABILITY = (8, 9)


def best_way(form: Format, device: torch.device, dtype: torch.dtype) -> str:
    """`rowwise` where the device multiplies fp8 and PyTorch gives bf16 out of it, else `dequantise`."""
    native = (
        form.name == "fp8" and device.type == "cuda" and torch.version.hip is None and dtype == torch.bfloat16
        and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY
    )  # fmt: skip
    return "rowwise" if native else "dequantise"


class QuantLinear(nn.Module):
    """`parts`: views of the engine's codes and scales for these rows; `bias` in the engine's dtype or None."""

    def __init__(self, form: Format, parts: Mapping[str, Tensor], bias: nn.Parameter | None, way: str) -> None:
        super().__init__()
        self.form, self.way = form, way
        self.names = tuple(parts)
        for name, value in parts.items():
            self.register_buffer(name, value, persistent=False)
        self.register_parameter("bias", bias)

    def forward(self, value: Tensor) -> Tensor:
        """[..., cols] to [..., rows], same dtype."""
        if self.way == "dequantise":
            return functional.linear(value, self.form.decode({name: getattr(self, name) for name in self.names}).to(value.dtype), self.bias)
        return self.product(*quantise_rows(value.reshape(-1, value.shape[-1]))).view(*value.shape[:-1], -1)

    def product(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Of activations that are codes already: [tokens, cols] with scales [tokens, 1] to [tokens, rows]. For the ways that multiply fp8."""
        dtype = torch.bfloat16
        if self.way == "rowwise":
            return torch._scaled_mm(
                codes, self.codes.t(), scale_a=scale, scale_b=self.scale.view(1, -1), bias=self.bias, out_dtype=dtype, use_fast_accum=True
            )
        one = torch.ones((), device=codes.device)
        out = torch._scaled_mm(codes, self.codes.t(), scale_a=one, scale_b=one, out_dtype=dtype, use_fast_accum=True)
        out = out.float() * scale * self.scale.view(1, -1)
        return (out if self.bias is None else out + self.bias.float()).to(dtype)


def quantise_rows(value: Tensor) -> tuple[Tensor, Tensor]:
    """Activations [tokens, cols] as fp8 codes with one f32 scale per token [tokens, 1]."""
    wide = value.float()
    peak = wide.abs().amax(dim=-1, keepdim=True).clamp_min(SMALLEST_SCALE * LIMIT)
    return (wide * (LIMIT / peak)).clamp(-LIMIT, LIMIT).to(CODE), peak / LIMIT
