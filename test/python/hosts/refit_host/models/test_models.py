"""Modules bound to an arena against the exporter's own modules with the same weights, for every family."""

from __future__ import annotations

import pytest
import torch
from exported_cases import CASES, step_inputs
from refit_graphs.families import plan
from refit_host.failure import HostFailure
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from transformer_structures import random_weights, through_refit_map


def engine_module(shapes, weights, *, channels_last: bool) -> tuple:
    spec = spec_of(shapes)
    layout = layout_of(spec, shapes, torch.float32, channels_last=channels_last)
    arena = torch.empty(layout.nbytes, dtype=torch.uint8)
    for name, value in weights.items():
        layout.by_name[name].put(arena, value)
    return spec, layout, arena, bind(spec.build(), spec, layout, arena)


@pytest.mark.parametrize(("case", "channels_last"), [*((case, False) for case in CASES), ("sdxl", True), ("wan21-t2v", True)])
def test_a_bound_module_equals_the_exporters_module(case, channels_last):
    shapes = CASES[case]()
    model = plan(dict(shapes))
    weights = random_weights(shapes)
    reference = model.build().to_empty(device="cpu")
    by_weight = through_refit_map(model, weights)
    reference.load_state_dict({name: by_weight[weight] for name, weight in model.weights.items()}, strict=True)
    inputs = step_inputs(model)
    expected = model.run(reference, *[inputs[port.name] for port in model.inputs])
    spec, _, _, module = engine_module(shapes, weights, channels_last=channels_last)
    got = spec.forward(module, inputs)
    assert got.shape == expected.shape
    assert torch.isfinite(got).all()
    assert (got - expected).norm() / expected.norm() < 2e-5


@pytest.mark.parametrize("case", ["sd15", "sdxl"])
def test_controlnet_residuals_reach_the_module(case):
    shapes = CASES[case]()
    model = plan(dict(shapes))
    weights = random_weights(shapes)
    spec, _, _, module = engine_module(shapes, weights, channels_last=False)
    inputs = step_inputs(model, residuals=True)
    plain = spec.forward(module, {name: value for name, value in inputs.items() if "residual" not in name})
    steered = spec.forward(module, inputs)
    zeros = {name: torch.zeros_like(value) if "residual" in name else value for name, value in inputs.items()}
    assert (steered - plain).norm() > 1e-3 * plain.norm()
    assert torch.equal(spec.forward(module, zeros), plain)


@pytest.mark.parametrize("case", ["sdxl", "flux-dev"])
def test_writing_the_arena_changes_the_next_output_and_writing_back_restores_it(case):
    shapes = CASES[case]()
    spec, layout, arena, module = engine_module(shapes, random_weights(shapes), channels_last=True)
    inputs = step_inputs(plan(dict(shapes)))
    before = spec.forward(module, inputs).clone()
    saved = arena.clone()
    name = max(shapes, key=lambda n: len(shapes[n]) >= 2 and ("attn" in n) and shapes[n][0])
    slot = layout.by_name[name]
    slot.put(arena, slot.get(arena) * 1.5)
    assert not torch.equal(spec.forward(module, inputs), before)
    arena.copy_(saved)
    assert torch.equal(spec.forward(module, inputs), before)


def test_a_structure_of_no_known_family_is_refused():
    with pytest.raises(HostFailure) as failure:
        spec_of({"something.weight": (4, 4)})
    assert failure.value.code == "HOST_GRAPH_INVALID"
