"""Families served without a graph: the host's call in ComfyUI's convention against diffusers' own module in diffusers' convention, before and after swaps.

diffusers' module gets its weights through the family's description, part by part; the host binds the same values where they lie.
"""

from __future__ import annotations

import re
from typing import Callable

import diffusers
import pytest
import torch
from diffusers_calls import CALLS
from engines import CPU, image, reader, swap, values, whole_engine
from family_structures import STRUCTURES, with_the_rest_later
from refit_graphs.descriptions import Described
from refit_host.distance import relative_error
from refit_host.failure import HostFailure
from refit_host.models.bind import bind, layout_of
from refit_host.models.family_module import module_of
from refit_host.models.registry import spec_of
from refit_host.quant.choose import quantised_layers
from refit_host.quant.formats import FORMATS
from refit_host.quant.report import base_module
from refit_host.quant.weights import QuantWeights
from refit_host.weights.stream import Ring
from step_inputs import inputs_of
from torch import Tensor

TOLERANCE = 1e-5
# diffusers rounds turned queries and keys to bf16, whatever the weights' type.
# LTX-2's audio sees video before video has looked at audio there, afterwards in ComfyUI, which the host follows.
ROUNDED = {"kandinsky5": 2e-3, "ltx2": 2e-3}
# Inputs that diffusers' own class reads in another way than ComfyUI's, which is the one that the host follows.
# diffusers has none.
GUIDES = ("guide_places", "kept_cells", "guide_weights")
UNLIKE = {
    "minimax-h3": ("word_kinds", "audio_scale", "shift_video", "shift_audio"),
    # Their gates between the streams go by each cell's own time.
    "ltx2": ("token_timesteps", "audio_token_timesteps", *GUIDES),
    "ltxv": GUIDES,
    "wan": ("frame_timesteps",),
    "hunyuan-video": ("attention_mask",),
    "hunyuan-video-1.5": ("attention_mask",),
}


def diffusers_module(spec, weights: dict[str, Tensor]) -> torch.nn.Module:
    """diffusers' class with the same values under its own names."""
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    described, state = Described(spec.family, shapes), {}
    own, left_out = getattr(module_of(spec.family), "OWN_NAMES", ()), getattr(module_of(spec.family), "LEFT_OUT", "$")
    for name, value in weights.items():
        if own and name.startswith(own) or re.match(left_out, name):
            continue
        for place in described.places(name):
            part = value if place.start is None else value[place.start : place.start + place.length]
            state[place.name] = torch.cat(part.chunk(2)[::-1]) if place.swap else part
    found = spec.build()
    module = getattr(diffusers, type(found).__name__)(**spec.config)
    own = module.state_dict()
    # Krea 2's tables are a vector in the file.
    module.load_state_dict({name: value.reshape(own[name].shape) for name, value in state.items()}, strict=True)
    return module.eval()


@pytest.fixture(params=STRUCTURES)
def case(request, tmp_path):
    shapes = STRUCTURES[request.param]()
    held = {name: shape for name, shape in shapes.items() if 0 not in shape}
    spec = spec_of(shapes)
    weights = whole_engine(tmp_path, held, spec=spec)
    return spec, weights, bind(spec.build(), spec, weights.layout, weights.live), tmp_path, held


def check(spec, module, weights, inputs) -> float:
    got = spec.forward(module, inputs)
    assert torch.isfinite(got).all()
    call: Callable = CALLS[spec.family]
    expected = call(diffusers_module(spec, values(weights)), inputs)
    assert got.shape == expected.shape
    return relative_error(got, expected)


def test_a_step_is_diffusers_own_and_stays_so_through_swaps(case):
    spec, weights, module, folder, held = case
    plain = inputs_of(spec)
    full = {name: value for name, value in inputs_of(spec, optional=True).items() if name not in UNLIKE.get(spec.family, ())}
    tolerance = ROUNDED.get(spec.family, TOLERANCE)
    assert check(spec, module, weights, plain) < tolerance
    if full.keys() != plain.keys():
        assert check(spec, module, weights, full) < tolerance
        assert relative_error(spec.forward(module, full), spec.forward(module, plain)) > 1e-4
    base = spec.forward(module, plain).clone()
    matrices = [name for name, shape in held.items() if len(shape) == 2 and ".1." in name]
    first, second = (image(folder, held, weights.layout, seed, layers=matrices) for seed in (11, 12))
    swap(weights, [(first, 1.0), (second, -0.5)])
    both = spec.forward(module, plain).clone()
    assert relative_error(both, base) > 1e-3
    assert check(spec, module, weights, plain) < tolerance
    swap(weights, [(second, 1.0)])
    assert not torch.equal(spec.forward(module, plain), both)
    swap(weights, [(first, 1.0), (second, -0.5)])
    assert torch.equal(spec.forward(module, plain), both)
    swap(weights, [])
    assert torch.equal(spec.forward(module, plain), base)


def test_a_row_of_a_batch_is_that_row_alone(case):
    spec, _, module, *_ = case
    whole = inputs_of(spec)
    alone = {name: value[:1] for name, value in whole.items()}
    assert relative_error(spec.forward(module, alone), spec.forward(module, whole)[:1]) < TOLERANCE


def test_any_size_is_served(case):
    spec, _, module, *_ = case
    for sizes in ({"height": 11, "width": 17, "tokens": 40}, {"height": 4, "width": 26, "tokens": 1}):
        inputs = inputs_of(spec, sizes=sizes)
        batch, _, *rest = inputs["sample"].shape
        channels, *behind = spec.ports.outputs[0]["shape"][1:]
        # Streams come flat, one after the other.
        whole = sum(value[0].numel() for name, value in inputs.items() if name in ("sample", "audio_sample"))
        assert spec.forward(module, inputs).shape == ((batch, channels, *rest) if behind else (batch, whole))


@pytest.mark.parametrize("name", with_the_rest_later("z-image", "wan22-a14b", "hunyuan-video-1.5", "hidream", "ltx2"))
def test_a_step_takes_weights_that_are_lent_for_it(tmp_path, name):
    """So is a quantised engine compared with its base: every layer has values while it is called."""
    shapes = {key: shape for key, shape in STRUCTURES[name]().items() if 0 not in shape}
    spec, form = spec_of(STRUCTURES[name]()), FORMATS["fp8"]
    layers = quantised_layers(spec.build(), spec, shapes, form)
    layout = layout_of(spec, shapes, torch.float32, channels_last=True)
    weights = QuantWeights(layout, {source.parameter for source in layers.values()}, form, CPU, Ring(CPU))
    weights.load("resident", reader(tmp_path, shapes))
    whole = whole_engine(tmp_path, shapes, spec=spec)
    expected = spec.forward(bind(spec.build(), spec, whole.layout, whole.live), inputs_of(spec))
    assert torch.equal(spec.forward(base_module(spec, weights.base, CPU), inputs_of(spec)), expected)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_that_lacks_a_parameter_is_refused_by_name(name):
    shapes = STRUCTURES[name]()
    gone = next(key for key in shapes if re.match(r"\D+\.1\.\D+\.\D+", key))
    spec = spec_of({key: shape for key, shape in shapes.items() if key != gone})
    with pytest.raises(HostFailure) as failure:
        bind_without_values(spec, shapes, gone)
    assert failure.value.code == "HOST_SHAPE_MISMATCH"


def bind_without_values(spec, shapes, gone) -> None:
    held = {key: shape for key, shape in shapes.items() if key != gone and 0 not in shape}
    layout = layout_of(spec, held, torch.float32, channels_last=False)
    bind(spec.build(), spec, layout, torch.empty(layout.nbytes, dtype=torch.uint8))
