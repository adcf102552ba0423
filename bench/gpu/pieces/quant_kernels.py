"""The kernels of quantised engines alone: products of codes (PyTorch's, ours, with a branch beside them in several ways), and the merge that gives codes (tiles to try).

Options: `products`, `merges` (true), `shapes` ([[rows, cols], ...]), `tokens` (4608).
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Callable, Iterator

import numpy as np
import torch
from refit_host.quant.encode import has_merge
from refit_host.quant.formats import FORMATS
from refit_host.quant.product import _library_product, quantise_tokens
from refit_host.weights.image import FAST
from refit_host.weights.layout import Layout
from refit_host.weights.table import build_table

from ..context import Context, relative_error

# Of Flux dev: queries, keys and values; what follows attention; the wide and the narrow half of the feed-forward; the end of a single block.
SHAPES = [[9216, 3072], [3072, 3072], [12288, 3072], [3072, 12288], [3072, 15360]]
TILES = [(128, 256, 128, 8, 8, 4), (128, 128, 128, 8, 8, 4), (128, 256, 128, 4, 8, 4)]
MERGE_TILES = [
    (64, 128, 4, 1),
    (64, 128, 4, 4),
    (64, 128, 4, 8),
    (64, 128, 8, 4),
    (32, 128, 4, 4),
    (64, 64, 4, 8),
    (128, 64, 4, 4),
    (32, 256, 4, 4),
]
NARROW_TILES = [(32, 256, 4, 3), (32, 128, 4, 4), (64, 128, 4, 4), (64, 256, 4, 3), (32, 128, 2, 4), (16, 256, 4, 3)]


def _timed(work: Callable, repeats: int = 12) -> dict:
    """By events of the device, several calls between two of them; the cache is emptied by what a call touches."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(4):
            work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 4)
    times.sort()
    return {"median_ms": round(times[len(times) // 2], 4), "min_ms": round(times[0], 4)}


def _rate(work: Callable, tokens: int, rows: int, cols: int) -> dict:
    found = _timed(work)
    return {**found, "tflops": round(2e-9 * tokens * rows * cols / found["median_ms"])}


def _tried(work: Callable[[], torch.Tensor], expected: torch.Tensor, measure: Callable[[Callable], dict]) -> dict:
    """Time and error of a kernel; why not, where it needs too much shared memory or the compiler fails."""
    try:
        got = work()
        return {**measure(work), "differs_by": relative_error(got, expected)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def _products(context: Context, tokens: int, rows: int, cols: int) -> Iterator[dict]:
    from refit_host.quant.matmul_triton import Tiles, matmul, narrow

    device = context.device
    x = torch.randn(tokens, cols, device=device).bfloat16()
    w = torch.randn(rows, cols, device=device) * 0.02
    bias = torch.randn(rows, device=device).bfloat16()
    up = torch.randn(rows, 128, device=device).bfloat16() * 0.01
    rate = partial(_rate, tokens=tokens, rows=rows, cols=cols)
    for kind, code in (("fp8", torch.float8_e4m3fn), ("int8", torch.int8)):
        label = {"what": "product", "kind": kind, "rows": rows, "cols": cols, "tokens": tokens}
        form = FORMATS[kind]
        parts = form.encode(w)
        codes, scale = quantise_tokens(x, code)
        down = form.encode(torch.randn(128, cols, device=device) * 0.02)
        if kind == "fp8":
            multiply = partial(torch._scaled_mm, codes, scale_a=scale, out_dtype=torch.bfloat16)
            library = partial(multiply, parts["codes"].t(), scale_b=parts["scale"].view(1, -1), bias=bias, use_fast_accum=True)
            first = partial(multiply, down["codes"].t(), scale_b=down["scale"].view(1, -1))
        else:
            library = partial(_library_product, codes, parts["codes"], scale, parts["scale"], bias)
            first = partial(_library_product, codes, down["codes"], scale, down["scale"], None)
        expected = library()
        yield {**label, "way": "library", **rate(library)}
        yield {**label, "way": "first factor of a branch, 128", **_timed(first)}
        both = first()
        half = both[:, :64] + both[:, 64:]
        ways = {
            "addmm beside": lambda: torch.addmm(library(), both, up.t()),
            "addmm_ in place, 128": lambda: library().addmm_(both, up.t()),
            "addmm_ in place, 64": lambda: library().addmm_(half, up[:, :64].t()),
            "addmm_ in place, 16": lambda: library().addmm_(half[:, :16], up[:, :16].t()),
            "sum of halves": lambda: both[:, :64] + both[:, 64:],
        }
        for way, work in ways.items():
            yield {**label, "way": way, **rate(work)}
        for chunk in (1024, 1152, 1536, 2304) if kind == "fp8" else ():

            def chunked(chunk: int = chunk) -> torch.Tensor:
                out = torch.empty(tokens, rows, dtype=torch.bfloat16, device=device)
                scales = {"scale_b": parts["scale"].view(1, -1), "bias": bias, "out_dtype": torch.bfloat16, "use_fast_accum": True}
                for begin in range(0, tokens, chunk):
                    part = slice(begin, begin + chunk)
                    torch._scaled_mm(codes[part], parts["codes"].t(), scale_a=scale[part], out=out[part], **scales)
                    out[part].addmm_(half[part], up[:, :64].t())
                return out

            yield {**label, "way": f"addmm_ in place, 64, {chunk} tokens at a time", **rate(chunked)}
        for tiles in NARROW_TILES:
            work = partial(narrow, codes, down["codes"], scale, down["scale"], tiles)
            yield {**label, "way": "first factor, ours", "tiles": tiles, **_tried(work, half, _timed)}
        for tiles in TILES:
            for ranks in (None, 16):
                used = None if ranks is None else (half[:, :ranks].contiguous(), up)
                work = partial(matmul, codes, parts["codes"], scale, parts["scale"], bias, used, Tiles(*tiles))
                wanted = expected if ranks is None else torch.addmm(expected, half[:, :ranks], up[:, :ranks].t())
                yield {**label, "way": "ours", "tiles": tiles, "ranks": ranks, **_tried(work, wanted, rate)}


def _merges(context: Context) -> Iterator[dict]:
    from refit_host.quant import merge_triton
    from refit_host.weights import merge_triton as plain

    device, matrices, rows, cols, rank = context.device, 24, 9216, 3072, 16
    layout = Layout.build({f"m{index}": (rows, cols) for index in range(matrices)}, torch.bfloat16)
    values = torch.randn(matrices * rows * cols, device=device).bfloat16() * 0.02
    factors = torch.randn(matrices * rank * (rows + cols), device=device).half() * 0.01
    fast = np.zeros(matrices, FAST)
    fast["slot"], fast["length"], fast["rank"], fast["scale"] = np.arange(matrices), rows, rank, 1.0
    fast["up"] = np.arange(matrices) * rank * (rows + cols) * 2
    fast["down"] = fast["up"] + rank * rows * 2
    table = build_table(layout, [(fast, 1.0)], layout.slots)
    live16 = torch.empty(layout.nbytes, dtype=torch.uint8, device=device)
    base16 = values.view(torch.uint8)
    numbers = matrices * rows * cols
    launch = plain.prepare(layout, table, [factors], device)
    found = _timed(lambda: plain.run(launch, layout, live16, base16))
    yield {"what": "merge", "kind": "bf16", "gigabytes_a_second": round(4e-6 * numbers / found["median_ms"]), **found}
    size = rows * cols + rows * 4
    live = torch.empty(matrices * size, dtype=torch.uint8, device=device)
    for kind, coded in itertools.product(("fp8", "int8"), (False, True)):
        form = FORMATS[kind]
        if coded:
            parts = [form.encode(values[index * rows * cols :][: rows * cols].view(rows, cols)) for index in range(matrices)]
            base = torch.cat([piece.view(torch.uint8).flatten() for part in parts for piece in (part["codes"], part["scale"])])
        else:
            base = base16
        places = {
            index: (index * size, index * size + rows * cols) if coded else (index * rows * cols * 2, -1) for index in range(matrices)
        }
        places = {index: (*at, index * size, index * size + rows * cols) for index, at in places.items()}
        yield {"what": "merge kernel", "kind": kind, "serves": has_merge(kind, device)}
        for tiles in MERGE_TILES:
            try:
                launch = merge_triton.prepare(form, table, places, [factors], device, tiles)
                found = _timed(lambda launch=launch: merge_triton.run(launch, live, base))
            except Exception as error:
                yield {"what": "merge", "kind": kind, "coded": coded, "tiles": tiles, "error": f"{type(error).__name__}: {error}"[:200]}
                continue
            yield {
                "what": "merge",
                "kind": kind,
                "coded": coded,
                "tiles": tiles,
                "nanoseconds_a_weight": round(1e6 * found["median_ms"] / numbers, 5),
                **found,
            }


def run(context: Context, options: dict) -> Iterator[dict]:
    if context.device.type != "cuda":
        yield {"what": "kernels", "not run": "the kernels need a CUDA device"}
        return
    if options.get("merges", True):
        yield from _merges(context)
    if options.get("products", True):
        for rows, cols in options.get("shapes", SHAPES):
            yield from _products(context, options.get("tokens", 4608), rows, cols)
