"""Every kernel of refit_host.fused in Triton's interpreter against the plain operations. Ends with an error where one differs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "sidecar/hosts/python"))

import torch  # noqa: E402
from refit_host.fused.kernels import KernelOperations  # noqa: E402
from refit_host.fused.maps import Groups, Time, channels_last  # noqa: E402
from refit_host.fused.passes import Even, Modulation, PlainOperations, Projections, Update  # noqa: E402

# The interpreter cuts off what does not fit into a code instead of rounding to the nearest.
CODES_TOLERANCE = 0.08
BATCH, TOKENS, COLS, HEADS, WIDTH = 2, 5, 96, 3, 32


def compare(name: str, got: object, expected: object, tolerance: float) -> None:
    value, reference = (each[0].float() * each[1] if isinstance(each, tuple) else each.float() for each in (got, expected))
    error = float((value - reference).norm() / reference.norm())
    print(name, tuple(value.shape), error)
    if not error < tolerance:
        raise SystemExit(f"{name}: differs by {error}")


def check(dtype: torch.dtype, tolerance: float) -> None:
    do, plain = KernelOperations(), PlainOperations()
    rand = lambda *shape: torch.randn(*shape).to(dtype)  # noqa: E731
    # Tokens 2 to 6 of nine: batches lie apart.
    x, y = rand(BATCH, 9, COLS)[:, 2:7], rand(BATCH * TOKENS, COLS)
    gate, scale, shift, *_ = rand(BATCH, 6 * COLS).chunk(6, 1)
    modulation = Modulation(scale, shift)
    norm, weight, bias = Even(1e-6), rand(COLS), rand(COLS)
    evens = {"layer norm": norm, "with a weight and bias": Even(1e-6, weight, bias), "RMS norm": Even(1e-5, weight, centred=False)}
    changes = {
        "no modulation": None,
        "no shift": Modulation(scale),
        "in f32": Modulation(scale.float().contiguous(), shift.float().contiguous()),
    }
    for kind, even in evens.items():
        for change, given in changes.items():
            compare(f"{kind}, {change}", do.norm(x, given, even, codes=None), plain.norm(x, given, even, codes=None), tolerance)
    for kind, change in (
        ("without a gate", (None, None)),
        ("normed", (gate, evens["RMS norm"])),
        ("normed, without a gate", (None, evens["RMS norm"])),
    ):
        one, other = torch.empty(BATCH, TOKENS, COLS, dtype=dtype), torch.empty(BATCH, TOKENS, COLS, dtype=dtype)
        found = [
            on.update_and_norm(x, Update(y, change[0], out, change[1]), None, evens["RMS norm"], codes=None)
            for on, out in ((do, one), (plain, other))
        ]
        compare(f"update {kind}, and norm", *found, tolerance)
        compare(f"update {kind}", one, other, tolerance)
    for codes in (None, torch.float8_e4m3fn, torch.int8):
        limit = tolerance if codes is None else CODES_TOLERANCE
        compare("norm", do.norm(x, modulation, Even(1e-6), codes=codes), plain.norm(x, modulation, Even(1e-6), codes=codes), limit)
        one, other = rand(BATCH, 9, COLS)[:, 1:6], torch.empty_like(x)
        found = [
            on.update_and_norm(x, Update(y, gate, out), modulation, Even(1e-6), codes=codes) for on, out in ((do, one), (plain, other))
        ]
        compare("update and norm", *found, limit)
        compare("what it keeps", one, other, tolerance)
        value, beside = rand(10, 200), rand(10, 48)
        compare("gelu", do.gelu(value, None, codes=codes), plain.gelu(value, None, codes=codes), limit)
        compare("gelu beside", do.gelu(value, beside, codes=codes), plain.gelu(value, beside, codes=codes), limit)
        compare("gated", do.gated(value, value * 2, codes=codes), plain.gated(value, value * 2, codes=codes), limit)
        compare("rows", do.rows(x, codes=codes), plain.rows(x, codes=codes), limit)
    one, other = torch.empty(BATCH, TOKENS, COLS, dtype=dtype), torch.empty(BATCH, TOKENS, COLS, dtype=dtype)
    do.update(x, Update(y, gate, one))
    plain.update(x, Update(y, gate, other))
    compare("update", one, other, tolerance)
    parts = [Projections.of_one(rand(BATCH * count, 3 * HEADS * WIDTH), rand(WIDTH), rand(WIDTH)) for count in (4, 5)]
    angles = torch.randn(9, WIDTH // 2)
    for given, turns in ((parts, angles), (parts[1:], angles[4:])):
        rotation = (turns.cos(), turns.sin())
        both = [on.rotate(given, BATCH, HEADS, rotation, 1e-6) for on in (do, plain)]
        for name, got, expected in zip(("queries", "keys", "values"), *both):
            compare(name, got, expected, tolerance)
    apart = Projections(*(rand(BATCH * 5, HEADS * WIDTH) for _ in range(3)), rand(WIDTH), rand(WIDTH))
    turns = (angles[4:].cos(), angles[4:].sin())
    for name, got, expected in zip(("queries", "keys", "values"), *(on.rotate([apart], BATCH, HEADS, turns, 1e-6) for on in (do, plain))):
        compare(f"{name} of products of their own", got, expected, tolerance)
    whole, weight = rand(BATCH * 5, 3 * COLS)[:, COLS : 2 * COLS], rand(COLS)
    for rotation in (None, turns):
        compare(
            "turned over all heads",
            do.turn(whole, weight, BATCH, HEADS, rotation, 1e-6),
            plain.turn(whole, weight, BATCH, HEADS, rotation, 1e-6),
            tolerance,
        )


def check_maps(dtype: torch.dtype, tolerance: float) -> None:
    do, plain = KernelOperations(), PlainOperations()
    rand = lambda *shape: torch.randn(*shape).to(dtype)  # noqa: E731
    # Groups of 3, 40 and 2 channels; one place, less than a stretch, several stretches, several steps a stretch (5000 places).
    for batch, channels, count, height, width in ((2, 96, 32, 5, 7), (1, 80, 2, 1, 1), (3, 64, 32, 9, 21), (1, 6, 3, 50, 100)):
        # Off zero, where sums of squares would cancel (much further off PyTorch's own norm is inexact).
        x, y = channels_last(rand(batch, channels, height, width) + 2), rand(batch, channels, height, width)
        groups, bias, said = Groups(count, 1e-5, rand(channels), rand(channels)), rand(channels), rand(batch, 2 * channels)
        for time in (Time(), Time(said[:, :channels]), Time(None, *said.chunk(2, 1))):
            for given in ({"bias": bias}, {"silu": False}):
                both = [on.norm_map(x, groups, time=time, **given) for on in (do, plain)]
                compare(f"group norm, {[one is not None for one in time]}, {list(given)}", *both, tolerance)
        for other, after in ((y, None), (y, bias), (None, bias)):
            compare("sum of maps", do.add_map(x, other, after), plain.add_map(x, other, after), tolerance)
        wider = rand(batch, 2 * channels + 1, height, width)
        compare("map of twice the size", do.double_map(x), plain.double_map(x), tolerance)
        compare("maps side by side", do.join_maps(x, wider), plain.join_maps(x, wider), tolerance)
    # 77 words and heads of 32 columns, and of 40; more words than the kernel takes.
    for codes in (None, torch.float8_e4m3fn, torch.int8):
        both = rand(5, 2 * 200)
        compare("geglu", do.geglu(both, codes=codes), plain.geglu(both, codes=codes), tolerance if codes is None else CODES_TOLERANCE)


torch.manual_seed(0)
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)):
    check(dtype, tolerance)
    check_maps(dtype, tolerance)
