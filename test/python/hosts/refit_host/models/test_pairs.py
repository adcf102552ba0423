"""Two checkpoints that take turns on one engine, as Wan 2.2 A14B's do for high and for low noise: no second structure, no trace of the other one."""

from __future__ import annotations

import pytest
import torch
from engines import image, reader, swap, values, whole_engine
from exported_cases import step_inputs
from refit_graphs.families import plan
from refit_host.models.bind import bind
from refit_host.models.registry import spec_of
from transformer_structures import wan

SHAPES = wan("wan22-i2v-14b")
HIGH, LOW = 0, 1


@pytest.mark.parametrize("place", ["resident", "pinned", "file"])
def test_high_and_low_noise_checkpoints_share_one_engine_and_leave_nothing_of_each_other(tmp_path, place):
    spec, inputs = spec_of(SHAPES), step_inputs(plan(dict(SHAPES)))
    engine = whole_engine(tmp_path, SHAPES, place)
    module = bind(spec.build(), spec, engine.layout, engine.live)
    stacks = {HIGH: [(image(tmp_path, SHAPES, engine.layout, 1), 0.7)], LOW: [(image(tmp_path, SHAPES, engine.layout, 2), -0.5)]}
    seen = {}
    for _ in range(2):
        for noise in (HIGH, LOW):
            swap(engine, stacks[noise], reader=reader(tmp_path, SHAPES, noise), full=True)
            output = spec.forward(module, inputs).clone()
            assert torch.equal(seen.setdefault(noise, output), output)
    assert not torch.equal(seen[HIGH], seen[LOW])
    fresh = whole_engine(tmp_path, SHAPES, place)
    swap(fresh, stacks[LOW], reader=reader(tmp_path, SHAPES, LOW), full=True)
    expected = values(fresh)
    assert all(torch.equal(value, expected[name]) for name, value in values(engine).items())
    assert torch.equal(spec.forward(bind(spec.build(), spec, fresh.layout, fresh.live), inputs), seen[LOW])


def test_both_checkpoints_have_one_structure_and_so_one_graph():
    names = dict(SHAPES)
    first, second = plan(dict(names)), plan(dict(reversed(names.items())))
    assert (first.family, first.config, first.weights) == (second.family, second.config, second.weights)
