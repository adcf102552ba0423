"""The passes between the products of a Flux block (refit_host/fused), alone: time and bytes a second for several sizes of a program.

Each is also compared with the plain operations. Options: none.
"""

from __future__ import annotations

from typing import Callable, Iterator

import torch
from refit_host.fused.passes import Even, Modulation, PlainOperations, Projections, Update

from ..context import Context, relative_error

TOKENS, WORDS, WIDTH, HEADS, HEAD = 4608, 512, 3072, 24, 128
REPEATS = 20


def _values(found: object) -> torch.Tensor:
    """What rows stand for."""
    return found[0].float() * found[1] if isinstance(found, tuple) else found.float()


def run(context: Context, options: dict) -> Iterator[dict]:
    if context.device.type != "cuda":
        yield {"what": "passes", "not run": "the kernels need a CUDA device"}
        return
    from refit_host.fused import kernels

    do, plain = kernels.KernelOperations(), PlainOperations()
    rand = lambda *shape: torch.randn(*shape, device=context.device, dtype=torch.bfloat16)  # noqa: E731
    x, y, out, mixed, wide = (
        rand(1, TOKENS, WIDTH),
        rand(TOKENS, WIDTH),
        rand(1, TOKENS, WIDTH),
        rand(TOKENS, WIDTH),
        rand(TOKENS, 4 * WIDTH),
    )
    modulation, gate = Modulation(*rand(2, 1, WIDTH)), rand(1, WIDTH)
    projections = [Projections.of_one(rand(count, 3 * WIDTH), rand(HEAD), rand(HEAD)) for count in (WORDS, TOKENS - WORDS, TOKENS)]
    angles = torch.randn(TOKENS, HEAD // 2, device=context.device)
    rotation = (angles.cos(), angles.sin())
    row = TOKENS * WIDTH

    def stacked(found: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.stack(found)

    # name: (call on operations, bytes moved, {constant of kernels: values to try})
    works: dict[str, tuple[Callable, int, dict]] = {
        "norm": (lambda on: on.norm(x, modulation, Even(1e-6), codes=None), 4 * row, {"NORM_WARPS": (2, 4, 8, 16)}),
        "norm, codes": (lambda on: on.norm(x, modulation, Even(1e-6), codes=torch.float8_e4m3fn), 3 * row, {"NORM_WARPS": (2, 4, 8, 16)}),
        "update": (lambda on: (on.update(x, Update(y, gate, out)), out)[1], 6 * row, {"NORM_WARPS": (2, 4, 8, 16)}),
        "update and norm": (lambda on: on.update_and_norm(x, Update(y, gate, out), modulation, Even(1e-6), codes=None), 8 * row, {"NORM_WARPS": (2, 4, 8, 16)}),
        "rotate": (lambda on: stacked(on.rotate(projections[2:], 1, HEADS, rotation, 1e-6)[:2]) if on is plain else on.rotate(projections[2:], 1, HEADS, rotation, 1e-6),
                   8 * row, {"HEADS": (2, 4, 8, 16), "ROTATE_WARPS": (2, 4, 8)}),
        "rotate, text and picture": (lambda on: on.rotate(projections[:2], 1, HEADS, rotation, 1e-6), 12 * row, {"HEADS": (4, 8), "ROTATE_WARPS": (2, 4, 8)}),
        "gelu": (lambda on: on.gelu(wide, None, codes=None), 16 * row, {"GELU_COLUMNS": (1024, 2048, 4096), "GELU_WARPS": (4, 8)}),
        "gelu beside": (lambda on: on.gelu(wide, mixed, codes=None), 20 * row, {"GELU_COLUMNS": (1024, 2048, 4096), "GELU_WARPS": (4, 8)}),
        "gelu, codes": (lambda on: on.gelu(wide, None, codes=torch.float8_e4m3fn), 12 * row, {"CODES_WARPS": (8, 16, 32)}),
        "gelu beside, codes": (lambda on: on.gelu(wide, mixed, codes=torch.float8_e4m3fn), 15 * row, {"CODES_WARPS": (8, 16, 32)}),
        "codes": (lambda on: on.rows(x, codes=torch.float8_e4m3fn), 3 * row, {"NORM_WARPS": (2, 4, 8, 16)}),
    }  # fmt: skip
    for name, (call, moved, constants) in works.items():
        first, second = call(do), call(plain)
        both = [_values(stacked(each[:2]) if isinstance(each, tuple) and len(each) == 3 else each) for each in (first, second)]
        yield {"what": "pass", "name": name, "error": relative_error(*both)}
        keys = list(constants)
        defaults = {key: getattr(kernels, key) for key in keys}
        choices = [{}]
        for key in keys:
            choices = [{**choice, key: value} for choice in choices for value in constants[key]]
        for choice in choices:
            for key, value in choice.items():
                setattr(kernels, key, value)
            graph = torch.cuda.CUDAGraph()
            call(do)
            context.sync()
            with torch.cuda.graph(graph):
                for _ in range(REPEATS):
                    call(do)
            figure = context.wall(graph.replay, repeats=7, warm=2)
            us = figure["median_ms"] * 1000 / REPEATS
            yield {
                "what": "pass",
                "name": name,
                **choice,
                "default": choice == defaults,
                "us": round(us, 1),
                "gb_per_s": round(moved / us / 1000),
            }
        for key, value in defaults.items():
            setattr(kernels, key, value)
