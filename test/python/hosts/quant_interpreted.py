"""The kernels of refit_host.quant in Triton's interpreter against the formats' own arithmetic. Ends with an error where one differs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "sidecar/hosts/python"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from refit_host.quant import matmul_triton, merge_triton, product_triton  # noqa: E402
from refit_host.quant.formats import FORMATS  # noqa: E402
from refit_host.weights.table import JOB, PRODUCT, MergeTable  # noqa: E402
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle  # noqa: E402

CPU = torch.device("cpu")


def _fma(_, x: TensorHandle, y: TensorHandle, z: TensorHandle) -> TensorHandle:
    """Rounded once, as a card does it; the interpreter's own rounds the product too."""
    exact = x.data.astype(np.float64) * y.data.astype(np.float64) + z.data.astype(np.float64)
    return TensorHandle(exact.astype(np.float32), x.dtype.scalar)


InterpreterBuilder.create_fma = _fma
# The interpreter cuts off what does not fit into a small fp8 code instead of rounding to the nearest, and loses a carry into the exponent.
SAME, FAR = {"int8": 0.003, "fp8": 1.0}, {"int8": 0.0, "fp8": 0.05}
ROWS, COLS = 48, 80


def check(condition: bool, what: str) -> None:
    print(what, "ok" if condition else "DIFFERS")
    if not condition:
        raise SystemExit(what)


def tables(
    ranks: list[int], make: torch.Generator, code: torch.dtype, start: int = 0
) -> tuple[np.ndarray, torch.Tensor, list[torch.Tensor]]:
    """Products of one matrix on rows [start, ROWS), each of an adapter of its own, their factors in one buffer, and what each adds."""
    products, parts, changes, at = np.zeros(len(ranks), PRODUCT), [], [], 0
    for index, rank in enumerate(ranks):
        up, down = (torch.randn(ROWS - start, rank, generator=make) * 0.1).to(code), torch.randn(rank, COLS, generator=make).to(code)
        alpha = 0.4 / (index + 1)
        places = []
        for factor in (up, down):
            raw = factor.view(torch.uint8).flatten()
            parts.append(torch.nn.functional.pad(raw, (0, -len(raw) % 128)))
            places.append(at)
            at += len(parts[-1])
        products[index] = (*places, rank, {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}[code], alpha, index, 0)
        changes.append(torch.nn.functional.pad(alpha * up.float() @ down.float(), (0, 0, start, 0)))
    return products, torch.cat(parts) if parts else torch.zeros(128, dtype=torch.uint8), changes


def merges(name: str, coded: bool, ranks: list[int], start: int = 0) -> None:
    form, make = FORMATS[name], torch.Generator().manual_seed(len(ranks) + start)
    value = torch.randn(ROWS, COLS, generator=make) * torch.linspace(0.01, 2, ROWS)[:, None]
    value[5] = 0
    before = form.encode(value)
    base_value = form.decode(before) if coded else value.bfloat16().float()
    before = before if coded else form.encode(base_value)
    source = (
        [before["codes"].view(torch.uint8).flatten(), before["scale"].view(torch.uint8).flatten()]
        if coded
        else [value.bfloat16().view(torch.uint8).flatten()]
    )
    base = torch.cat(source)
    live = torch.zeros(ROWS * COLS + ROWS * 4, dtype=torch.uint8)
    products, factors, changes = tables(ranks, make, torch.float16, start)
    rows = [(0, start, ROWS - start, COLS, 0, len(ranks))] + ([(0, 0, start, COLS, 0, 0)] if start else [])
    table = MergeTable(np.array(rows, JOB), products)
    launch = merge_triton.prepare(
        form, table, {0: (0, ROWS * COLS if coded else -1, 0, ROWS * COLS)}, [factors] * max(1, len(ranks)), CPU, (16, 32, 4, 2)
    )
    merge_triton.run(launch, live, base)
    got = {"codes": live[: ROWS * COLS].view(form.code).view(ROWS, COLS), "scale": live[ROWS * COLS :].view(torch.float32).view(ROWS, 1)}
    merged = base_value + sum(changes, torch.zeros_like(base_value))
    expected = form.encode(merged, before) if ranks else before
    label = f"{name}, {'codes' if coded else 'bf16'}, ranks {ranks}, from row {start}"
    check(torch.allclose(got["scale"], expected["scale"], rtol=1e-5), f"scales of {label}")
    steps = form.steps(expected)
    # A row of zeros has steps that f32 does not hold.
    away = ((form.decode(got) - form.decode(expected)).abs() / steps.clamp_min(1e-38)).flatten()
    check(float((away > 1.001).float().mean()) <= FAR[name], f"codes of {label}: up to {float(away.max()):.3f} steps")
    check(float((away > 0.5).float().mean()) <= SAME[name], f"most codes of {label}")
    if name == "int8" and coded and not ranks:
        check(torch.equal(got["codes"], before["codes"]), f"base of {label}")
    for index, change in enumerate(changes):
        error = (form.decode(got) - form.decode(before) - (merged - base_value))[start:]
        own = change[start:]
        sums = torch.stack([(error * error).sum(), (error * own).sum(), (own * own).sum()])
        if name == "int8":
            check(torch.allclose(launch.lost[index], sums, rtol=2e-3, atol=1e-4), f"what was lost of {label}")


def tokens() -> None:
    value = torch.randn(9, 72).bfloat16()
    value[3] = 0
    codes, scale = product_triton.quantise_tokens(value, torch.int8)
    peak = value.float().abs().amax(1, keepdim=True).clamp_min(127 * 2.0**-126)
    check(
        torch.equal(codes, (value.float() * (127 / peak)).round().to(torch.int8)) and torch.allclose(scale, peak / 127),
        "int8 codes of tokens",
    )
    sums = torch.randint(-(10**6), 10**6, (9, 48), dtype=torch.int32)
    other, bias = torch.rand(48, 1), torch.randn(48).bfloat16()
    out = product_triton.scaled(sums, scale, other, bias)
    check(
        torch.allclose(out.float(), (sums.float() * scale * other.view(1, -1) + bias.float()).bfloat16().float(), rtol=1e-2),
        "scales of sums",
    )


def products() -> None:
    """bf16 has no arithmetic in the interpreter: branches are f16 here."""
    codes, weight, down = (torch.randint(-127, 128, (rows, 96), dtype=torch.int8) for rows in (50, 72, 128))
    scale, weight_scale, down_scale = (torch.rand(rows, 1) * 0.01 for rows in (50, 72, 128))
    bias, up = torch.randn(72).bfloat16(), torch.randn(72, 128).half()
    plain = (codes.float() @ weight.float().T) * scale * weight_scale.view(1, -1) + bias.float()
    first = (codes.float() @ down.float().T) * scale * down_scale.view(1, -1)
    first = first[:, :64] + first[:, 64:]
    got = matmul_triton.narrow(codes, down, scale, down_scale, (16, 32, 4, 2))
    check(torch.allclose(got.float(), first, rtol=1e-2, atol=0.05), "first factor of a branch")
    tiles = matmul_triton.Tiles(16, 32, 32, 2, 4, 2)
    got = matmul_triton.matmul(codes, weight, scale, weight_scale, bias, None, tiles)
    check(torch.allclose(got.float(), plain, rtol=1e-2, atol=0.05), "int8 product")
    got = matmul_triton.matmul(codes, weight, scale, weight_scale, bias, (first.half(), up), tiles)
    check(
        torch.allclose(got.float(), plain + first.half().float() @ up[:, :64].float().T, rtol=2e-2, atol=0.3), "int8 product with a branch"
    )


torch.manual_seed(0)
tokens()
products()
for form in ("int8", "fp8"):
    for base in (False, True):
        for given in ([], [4], [16, 3], [40]):
            merges(form, base, given)
        merges(form, base, [8], 16)
