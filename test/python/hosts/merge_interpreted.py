"""The one-launch merge in Triton's interpreter against the plain operations, with pristine values in the arena and anywhere else. Ends with an error where they differ."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "sidecar/hosts/python"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from refit_host.weights import merge_torch, merge_triton  # noqa: E402
from refit_host.weights.image import FAST  # noqa: E402
from refit_host.weights.layout import Layout  # noqa: E402
from refit_host.weights.loss import LossSums  # noqa: E402
from refit_host.weights.table import build_table  # noqa: E402

SHAPES = {"wide": (70, 130), "square": (64, 64), "odd": (7, 9), "without adapter": (64, 64)}
RANK = 4


def check(dtype: torch.dtype, code: int, tolerance: float) -> None:
    layout = Layout.build(SHAPES, dtype)
    values = {name: torch.randn(shape).to(dtype) for name, shape in SHAPES.items()}
    factors = torch.randn(1 << 14).to(dtype)
    rows, position = np.zeros(3, FAST), 0
    for row, name in zip(rows, list(SHAPES)[:3]):
        row["slot"], row["length"], row["rank"], row["code"], row["scale"] = layout.by_name[name].index, SHAPES[name][0], RANK, code, 0.5
        for side, size in (("up", SHAPES[name][0]), ("down", SHAPES[name][1])):
            row[side] = position
            position += -(-size * RANK * factors.element_size() // 256) * 256
    buffers, slots = [factors.view(torch.uint8)], [layout.by_name[name] for name in SHAPES]
    table = build_table(layout, [(np.sort(rows, order="slot"), 1.0)], slots)
    pristine = torch.zeros(layout.nbytes, dtype=torch.uint8)
    for name, value in values.items():
        layout.by_name[name].put(pristine, value)
    expected, inside, anywhere = pristine.clone(), pristine.clone(), torch.zeros_like(pristine)
    wanted, found = LossSums(), LossSums()
    merge_torch.merge(layout, expected, pristine, table, buffers, wanted)
    device = torch.device("cpu")
    merge_triton.run(merge_triton.prepare(layout, table, buffers, device), layout, inside, inside, losses=found)
    places = layout.table[:, 0].copy()
    for name, value in values.items():
        places[layout.by_name[name].index] = value.data_ptr() - anywhere.data_ptr()
    merge_triton.run(merge_triton.prepare(layout, table, buffers, device, sources=places), layout, anywhere, anywhere)
    error = float((inside.view(dtype).float() - expected.view(dtype).float()).abs().max())
    print(dtype, error)
    if not error <= tolerance or not torch.equal(inside, anywhere):
        raise SystemExit(f"{dtype}: differs by {error}, elsewhere {'the same' if torch.equal(inside, anywhere) else 'not the same'}")

    if dtype != torch.float32:
        sums, others = wanted.fetch(), found.fetch()
        same = np.array_equal(sums.position, others.position) and np.array_equal(sums.slot, others.slot)
        if not same or not np.allclose(sums.sums, others.sums, rtol=0.01, atol=1e-9):
            raise SystemExit(f"{dtype}: sums of what was lost differ: {others.sums} for {sums.sums}")


torch.manual_seed(0)
check(torch.float32, 2, 1e-5)
check(torch.float16, 0, 0.01)
