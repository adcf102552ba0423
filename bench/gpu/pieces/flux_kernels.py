"""What a Flux step consists of, alone: attention by backend, products in bf16 and fp8 at its shapes. TFLOP/s tell what is left."""

from __future__ import annotations

from typing import Callable, Iterator

import torch
from refit_host.quant.fp8 import Fp8
from refit_host.quant.product import quantise_tokens
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..context import Context, relative_error

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}
# tokens, columns, rows
PRODUCTS = ((4608, 3072, 9216), (4608, 3072, 12288), (4608, 3072, 21504), (4608, 15360, 3072), (4608, 3072, 3072), (4096, 3072, 9216), (4096, 3072, 12288),
            (4096, 12288, 3072), (512, 3072, 12288))  # fmt: skip


def _row(context: Context, label: dict, flops: float, work: Callable[[], object]) -> dict:
    try:
        figure = context.wall(work, warm=3)
    except Exception as error:
        return {**label, "failed": f"{type(error).__name__}: {error}"[:300]}
    return {**label, **figure, "tflops": round(flops / figure["median_ms"] / 1e9, 1)}


def _many(work: Callable[[], object], count: int) -> Callable[[], None]:
    """A single product is shorter than the clock's overhead."""

    def run() -> None:
        for _ in range(count):
            work()

    return run


def _attention(context: Context, tokens: int, heads: int, width: int) -> Iterator[dict]:
    query, key, value = (
        torch.randn(1, tokens, heads, width, device=context.device, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3)
    )
    flops = 20 * 4.0 * tokens * tokens * heads * width
    yield _row(
        context,
        {"what": "attention x 20", "backend": "default"},
        flops,
        _many(lambda: functional.scaled_dot_product_attention(query, key, value), 20),
    )
    for name, backend in BACKENDS.items() if context.device.type == "cuda" else ():
        with sdpa_kernel(backend):
            yield _row(
                context,
                {"what": "attention x 20", "backend": name},
                flops,
                _many(lambda: functional.scaled_dot_product_attention(query, key, value), 20),
            )


def _products(context: Context, tokens: int, cols: int, rows: int) -> Iterator[dict]:
    make = torch.Generator(context.device).manual_seed(1)
    value = torch.randn(tokens, cols, device=context.device, generator=make).bfloat16()
    weight = (torch.randn(rows, cols, device=context.device, generator=make) / cols**0.5).bfloat16()
    bias = torch.randn(rows, device=context.device, generator=make).bfloat16()
    label, flops = {"what": "product x 20", "shape": [tokens, cols, rows]}, 20 * 2.0 * tokens * cols * rows
    yield _row(context, {**label, "way": "bf16"}, flops, _many(lambda: functional.linear(value, weight, bias), 20))
    if context.device.type != "cuda":
        return
    parts = Fp8().encode(weight)
    codes, scale = quantise_tokens(value, torch.float8_e4m3fn)
    right, across, one = parts["codes"].t(), parts["scale"].view(1, -1), torch.ones((), device=context.device)
    ways = {
        "fp8 rowwise": lambda: torch._scaled_mm(
            codes, right, scale_a=scale, scale_b=across, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
        ),
        "fp8 rowwise, no bias": lambda: torch._scaled_mm(
            codes, right, scale_a=scale, scale_b=across, out_dtype=torch.bfloat16, use_fast_accum=True
        ),
        "fp8 rowwise, slow accumulation": lambda: torch._scaled_mm(
            codes, right, scale_a=scale, scale_b=across, bias=bias, out_dtype=torch.bfloat16
        ),
        "fp8 unit scale": lambda: torch._scaled_mm(codes, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True),
        "fp8 unit scale, slow accumulation": lambda: torch._scaled_mm(codes, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16),
    }
    reference = value.double() @ weight.double().t() + bias.double()
    for name, work in ways.items():
        row = _row(context, {**label, "way": name}, flops, _many(work, 20))
        if "failed" not in row:
            out = work().double()
            out = out * scale * across + bias if "unit" in name else out if "no bias" not in name else out + bias
            row["error"] = relative_error(out, reference)
        yield row


def run(context: Context, options: dict) -> Iterator[dict]:
    yield from _attention(context, *((4608, 24, 128) if not context.tiny else (48, 4, 64)))
    for shape in PRODUCTS if not context.tiny else ((48, 64, 64),):
        yield from _products(context, *shape)
