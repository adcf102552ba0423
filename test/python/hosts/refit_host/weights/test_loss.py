"""What rounding takes of an adapter in a plain engine, as its report says it, against the same computed in f64 from the stored values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from engines import CPU, image, reader, swap
from refit_host.weights.layout import Layout
from refit_host.weights.refit import Weights
from refit_host.weights.stream import Ring

WAYS = ("merged as products", "evaluated term by term")
SHAPES = {"a.weight": (48, 64), "b.weight": (64, 40), "c.weight": (32, 32)}


def engine(folder, dtype) -> Weights:
    weights = Weights(Layout.build(SHAPES, dtype), CPU, Ring(CPU))
    weights.load("pinned", reader(folder, SHAPES))
    return weights


def whole_adapter(folder, weights: Weights, way: str):
    made = image(folder, SHAPES, weights.layout, 1, layers=list(SHAPES))
    return replace(made, slow=dict(made.every)) if way == "evaluated term by term" else made


def intended(member, strength: float) -> dict[str, torch.Tensor]:
    """f64 changes by parameter."""
    out = {}
    for name, shape in SHAPES.items():
        if f"{name}.up" in member.spans:
            factors = {role: member.factor(f"{name}.{role}", member.factors).double() for role in ("up", "down")}
            out[name] = strength * 0.5 * (factors["up"] @ factors["down"]).reshape(shape)
    return out


def expected(weights: Weights, stack) -> dict[int, tuple[float, float]]:
    """Projection and lost share of each member of the stack."""
    changes = [intended(each, strength) for each, strength in stack]
    sums = [[0.0, 0.0, 0.0] for _ in stack]
    for slot in weights.layout.slots:
        mine = [(position, change[slot.name]) for position, change in enumerate(changes) if slot.name in change]
        base = slot.get(weights.base.arena).double()
        error = slot.get(weights.live).double() - base - sum(change for _, change in mine)
        for position, change in mine:
            for index, value in enumerate((error * error, error * change, change * change)):
                sums[position][index] += float(value.sum())
    return {position: (1 + cross / own, math.sqrt(error / own)) for position, (error, cross, own) in enumerate(sums)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strength", [1.0, 0.1, 0.003])
@pytest.mark.parametrize("way", WAYS)
def test_projection_and_lost_share_are_those_of_the_stored_values(tmp_path, dtype, strength, way):
    weights = engine(tmp_path, dtype)
    whole = whole_adapter(tmp_path, weights, way)
    part = image(tmp_path, SHAPES, weights.layout, 2, rank=8, layers=["b.weight", "c.weight"])
    # The last refits write some of the slots only: the others keep what was found of them.
    for stack in ([(whole, strength)], [(whole, strength), (part, 0.7)], [(whole, strength), (part, 0.2)], [(part, 0.2)], []):
        swap(weights, stack)
        found = {row["adapter"]: row for row in weights.losses}
        assert len(found) == len(stack)
        for position, (projection, lost) in expected(weights, stack).items():
            row = found[stack[position][0].file.adapter]
            assert row["projection"] == pytest.approx(projection, rel=0.01, abs=1e-4)
            assert row["lostShare"] == pytest.approx(lost, rel=0.01)
            assert row["merged"] == (3 if position == 0 and stack[0][0] is whole else 2) and row["branched"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_f32_loses_nothing_that_a_report_would_show(tmp_path, way):
    weights = engine(tmp_path, torch.float32)
    swap(weights, [(whole_adapter(tmp_path, weights, way), 0.5)])
    assert weights.losses == []
