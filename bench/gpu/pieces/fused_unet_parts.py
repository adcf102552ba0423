"""Products, convolutions, attention and passes of SDXL's fused step, each alone in a CUDA graph: microseconds, and operations or bytes a second.

Every call takes the next of several sets of weights, so that they come from memory as in a step. Options: `kinds` (some of KINDS), `batch`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Callable, Iterator
from unittest import mock

import torch
from refit_host.fused.maps import Groups, Time, channels_last
from refit_host.fused.passes import Even, Update
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..context import Context, cudnn_setting, relative_error

KINDS = ("products", "gated", "upsampling", "attention", "convolutions", "passes")
CALLS, SETS, ROUNDS = 12, 4, 5
WORDS = 77
# Columns in, columns out, bias; by width of the level (tokens of a picture: 4096 and 1024).
PRODUCTS = {
    640: ((640, 640, True), (640, 1920, False), (640, 5120, True), (2560, 640, True)),
    1280: ((1280, 1280, True), (1280, 3840, False), (1280, 10240, True), (5120, 1280, True)),
}
# Channels in and out, side of the picture, stride.
CONVOLUTIONS = ((320, 320, 128, 1), (960, 320, 128, 1), (640, 320, 128, 1), (640, 640, 128, 1), (320, 640, 64, 1), (640, 640, 64, 1), (1920, 640, 64, 1), (1280, 1280, 64, 1),
                (640, 1280, 32, 1), (1280, 1280, 32, 1), (2560, 1280, 32, 1), (320, 320, 128, 2))  # fmt: skip
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}


def _micros(context: Context, calls: Callable[[int], Any]) -> float:
    for index in range(SETS):
        calls(index)
    context.sync()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(CALLS):
            calls(index % SETS)
    return context.wall(graph.replay, repeats=ROUNDS, warm=2)["median_ms"] * 1000 / CALLS


def _row(kind: str, name: Any, micros: float, *, operations: float = 0, moved: float = 0, **more: Any) -> dict:
    rate = {"tflops": round(operations / micros / 1e6)} if operations else {"gb_per_s": round(moved / micros / 1e3)}
    return {"what": kind, "name": name, **more, "us": round(micros, 1), **rate}


def _tried(kind: str, name: Any, work: Callable[[], dict]) -> dict:
    try:
        return work()
    except Exception as error:  # what does not run is a finding
        return {"what": kind, "name": name, "failed": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}


class _Parts:
    def __init__(self, context: Context, batch: int) -> None:
        self.context, self.batch = context, batch

    def rand(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.context.device, dtype=torch.float16)

    def products(self) -> Iterator[dict]:
        cases = [((4096 if width == 640 else 1024) * self.batch, *case) for width, cases in PRODUCTS.items() for case in cases]
        for rows, inside, out, biased in [
            *cases,
            (WORDS * self.batch, 2048, 120 * 1280, False),
            (WORDS * self.batch, 2048, 1280, False),
            (self.batch, 1280, 1280, True),
        ]:
            x, weights = self.rand(rows, inside), [self.rand(out, inside) * inside**-0.5 for _ in range(SETS if out < 20000 else 1)]
            bias = self.rand(out) if biased else None
            micros = _micros(self.context, lambda index: functional.linear(x, weights[index % len(weights)], bias))
            yield _row("product", [rows, inside, out], micros, operations=2 * rows * inside * out, bias=biased)
        context, stack = self.rand(WORDS * self.batch, 2048), self.rand(120, 1280, 2048) * 0.02
        micros = _micros(self.context, lambda _: torch.matmul(context, stack.transpose(1, 2)))
        yield _row("product", "words, batched", micros, operations=2 * context.numel() * 120 * 1280)

    def gated(self) -> Iterator[dict]:
        """GEGLU behind a product: cuBLAS and a pass, beside one kernel for both."""
        from refit_host.fused.kernels import KernelOperations

        from ..geglu_product import TILES, product_geglu

        do = KernelOperations()
        for tokens, width in ((4096, 640), (1024, 1280)):
            rows = tokens * self.batch
            x, bias = self.rand(rows, width), self.rand(8 * width)
            weights = [self.rand(8 * width, width) * width**-0.5 for _ in range(SETS)]
            work = {"operations": 16 * rows * width * width}
            expected = do.geglu(functional.linear(x, weights[0], bias), codes=None)
            micros = _micros(self.context, lambda index: do.geglu(functional.linear(x, weights[index], bias), codes=None))
            yield _row("gated product", [rows, width], micros, **work, way="cuBLAS and a pass")
            for tile in TILES:

                def one(tile: tuple = tile) -> dict:
                    error = relative_error(product_geglu(x, weights[0], bias, tile), expected)
                    return _row(
                        "gated product",
                        [rows, width],
                        _micros(self.context, lambda index: product_geglu(x, weights[index], bias, tile)),
                        **work,
                        error=error,
                    )

                yield _tried("gated product", [rows, width], one) | {"way": "one kernel", "tile": tile}

    def upsampling(self) -> Iterator[dict]:
        """Twice the size and a 3 x 3 convolution, beside four 2 x 2 convolutions of the small map (their sums of weights and the interleaving not counted)."""
        for channels, side in ((640, 64), (1280, 32)):
            x = channels_last(self.rand(self.batch, channels, side, side))
            whole = channels_last(self.rand(channels, channels, 3, 3) * 0.02)
            phases = [channels_last(self.rand(channels, channels, 2, 2) * 0.02) for _ in range(4)]
            ways = {
                "interpolate": lambda _, x=x: functional.interpolate(x, scale_factor=2.0, mode="nearest"),
                "interpolate and 3 x 3": lambda _, x=x, whole=whole: functional.conv2d(
                    functional.interpolate(x, scale_factor=2.0, mode="nearest"), whole, None, 1, 1
                ),
                "four of 2 x 2": lambda _, x=x, phases=phases: [functional.conv2d(x, phase, None, 1, 1) for phase in phases],
            }
            for way, call in ways.items():
                yield _row("upsampling", [channels, side], _micros(self.context, call), moved=10 * x.numel(), way=way)

    def convolutions(self) -> Iterator[dict]:
        for inside, out, side, stride in CONVOLUTIONS:
            for last in (True, False):
                for benchmark in (False, True):
                    name = [inside, out, side, stride]
                    more = {"channels_last": last, "benchmark": benchmark}
                    yield _tried("convolution", name, lambda: self._convolution(inside, out, side, stride, last, benchmark)) | more

    def _convolution(self, inside: int, out: int, side: int, stride: int, last: bool, benchmark: bool) -> dict:
        kind = torch.channels_last if last else torch.contiguous_format
        x = self.rand(self.batch, inside, side, side).to(memory_format=kind)
        weights = [(self.rand(out, inside, 3, 3) * (9 * inside) ** -0.5).to(memory_format=kind) for _ in range(SETS)]
        with cudnn_setting("benchmark", benchmark):
            micros = _micros(self.context, lambda index: functional.conv2d(x, weights[index], None, stride, 1))
        return _row(
            "convolution", [inside, out, side, stride], micros, operations=2 * self.batch * (side // stride) ** 2 * 9 * inside * out
        )

    def attention(self) -> Iterator[dict]:
        for heads, tokens in ((10, 4096), (20, 1024)):
            for words in (tokens, WORDS):
                for backend in BACKENDS:
                    name = [heads, tokens, words]
                    yield _tried("attention", name, lambda: self._attention(heads, tokens, words, backend)) | {"backend": backend}

    def _attention(self, heads: int, tokens: int, words: int, backend: str) -> dict:
        # Keys and values as the products give them: columns of a wide matrix.
        qkv = self.rand(self.batch, tokens, 3 * heads * 64).unflatten(2, (3, heads, 64))
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        if words != tokens:
            key, value = (
                part.transpose(1, 2) for part in self.rand(self.batch, words, 2 * heads * 64).unflatten(2, (2, heads, 64)).unbind(2)
            )
        with sdpa_kernel([BACKENDS[backend]]):
            micros = _micros(self.context, lambda _: functional.scaled_dot_product_attention(query, key, value))
        return _row("attention", [heads, tokens, words], micros, operations=4 * self.batch * heads * tokens * words * 64)

    def passes(self) -> Iterator[dict]:
        from refit_host.fused import kernels, map_kernels

        do = kernels.KernelOperations()
        for channels, side in ((320, 128), (960, 128), (640, 64), (1920, 64), (1280, 32), (2560, 32)):
            x = channels_last(self.rand(self.batch, channels, side, side))
            groups, time = Groups(32, 1e-5, self.rand(channels), self.rand(channels)), Time(self.rand(self.batch, channels))
            bias, other = self.rand(channels), torch.randn_like(x)
            moved = 2 * x.numel()
            sums = (
                ("SUM_PLACES", "CHANNELS", "SUM_WARPS"),
                ((128, 64, 8), (64, 64, 4), (64, 64, 8), (128, 64, 4), (128, 32, 4), (256, 32, 8), (32, 128, 4)),
            )
            tiles = ("PLACES", "CHANNELS", "MAP_WARPS"), ((32, 64, 4), (16, 128, 4), (64, 64, 8))
            works = [("norm_map", lambda _: do.norm_map(x, groups, bias=bias, time=time), 3, sums), ("add_map", lambda _: do.add_map(x, other, bias), 3, tiles),
                     ("join_maps", lambda _: do.join_maps(x, other), 4, tiles), ("double_map", lambda _: do.double_map(x), 5, tiles)]  # fmt: skip
            for name, call, passes, (constants, values) in works:
                for tile in values:
                    with ExitStack() as stack:
                        for constant, value in zip(constants, tile):
                            stack.enter_context(mock.patch.object(map_kernels, constant, value))
                        found = _tried("pass", name, lambda: _row("pass", name, _micros(self.context, call), moved=passes * moved))
                    yield found | {"map": [channels, side], "tile": tile}
        for tokens, width in ((4096, 640), (1024, 1280)):
            rows = tokens * self.batch
            both, x, y = self.rand(rows, 8 * width), self.rand(self.batch, tokens, width), self.rand(rows, width)
            for columns, warps in ((256, 2), (256, 4), (512, 2), (512, 4), (1024, 4)):
                with mock.patch.object(map_kernels, "GEGLU_COLUMNS", columns), mock.patch.object(map_kernels, "GEGLU_WARPS", warps):
                    yield _row(
                        "pass",
                        "geglu",
                        _micros(self.context, lambda _: do.geglu(both, codes=None)),
                        moved=24 * rows * width,
                        tile=[columns, warps],
                        rows=[rows, width],
                    )
            even = Even(1e-5, self.rand(width), self.rand(width))
            for warps in (1, 2):
                with mock.patch.object(kernels, "_warps", lambda _, warps=warps: warps):
                    for name, call, moved in (
                        ("norm", lambda _: do.norm(x, None, even, codes=None), 2),
                        ("update and norm", lambda _: do.update_and_norm(x, Update(y, None, x), None, even, codes=None), 4),
                    ):
                        yield _row(
                            "pass", name, _micros(self.context, call), moved=moved * 2 * rows * width, warps=warps, rows=[rows, width]
                        )


def run(context: Context, options: dict) -> Iterator[dict]:
    if context.device.type != "cuda":
        yield {"what": "parts", "not run": "the kernels need a CUDA device"}
        return
    parts = _Parts(context, options.get("batch", 2))
    for kind in options.get("kinds", KINDS):
        try:
            yield from getattr(parts, kind)()
        except Exception as error:  # one kind's failure must not hide the others
            yield {"what": kind, "failed": f"{type(error).__name__}: {str(error)[:300]}"}
