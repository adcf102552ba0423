"""Quantised engines on the CPU: every refit starts at the base, merges in f32 and quantises once, from every place of the base."""

from __future__ import annotations

import pytest
import torch
from engines import CPU, bits, image, reader, sdxl_shapes, swap, values, whole_engine
from refit_host.failure import HostFailure
from refit_host.models.bind import layout_of
from refit_host.models.registry import spec_of
from refit_host.quant.choose import quantised_layers
from refit_host.quant.formats import FORMATS
from refit_host.quant.weights import QuantWeights
from refit_host.weights.stream import Ring
from transformer_structures import flux

STRUCTURES = {"sdxl": sdxl_shapes, "flux": flux}


def quant_engine(
    folder, shapes, place: str = "resident", name: str = "fp8", seed: int = 0, dtype: torch.dtype = torch.bfloat16
) -> QuantWeights:
    spec, form = spec_of(shapes), FORMATS[name]
    layers = quantised_layers(spec.build(), spec, shapes, form)
    layout = layout_of(spec, shapes, dtype, channels_last=True)
    weights = QuantWeights(layout, {source.parameter for source in layers.values()}, form, CPU, Ring(CPU))
    weights.load(place, reader(folder, shapes, seed))
    return weights


def stack_of(folder, shapes, weights, *pairs: tuple[int, float]):
    return [(image(folder, shapes, weights.layout, seed), strength) for seed, strength in pairs]


@pytest.mark.parametrize(("structure", "name"), [("flux", "fp8"), ("flux", "nvfp4"), pytest.param("sdxl", "fp8", marks=pytest.mark.e2e)])
def test_values_are_the_quantised_base_and_the_rest_is_whole(tmp_path, structure, name):
    shapes = STRUCTURES[structure]()
    weights = quant_engine(tmp_path, shapes, name=name)
    whole = whole_engine(tmp_path, shapes)
    coded = {slot.name for slot in weights.layout.slots if slot.index in weights.stored.coded}
    assert len(coded) > 8
    form = FORMATS[name]
    for slot in weights.layout.slots:
        base = whole.value(whole.slot(slot.name)).bfloat16()
        expected = (
            form.decode(form.encode(base.float().view(slot.rows, slot.cols))).bfloat16().view(slot.shape) if slot.name in coded else base
        )
        assert torch.equal(weights.value(slot), expected), slot.name


@pytest.mark.parametrize("structure", ["flux", pytest.param("sdxl", marks=pytest.mark.e2e)])
def test_a_merge_is_made_in_f32_and_quantised_once(tmp_path, structure):
    shapes = STRUCTURES[structure]()
    weights = quant_engine(tmp_path, shapes, dtype=torch.float32)
    whole = whole_engine(tmp_path, shapes)
    base = values(whole)
    for engine in (weights, whole):
        swap(engine, stack_of(tmp_path, shapes, engine, (1, 0.8), (2, -0.5)))
    form = FORMATS["fp8"]
    for slot in weights.layout.slots:
        merged = whole.value(whole.slot(slot.name))
        if slot.index in weights.stored.coded:
            # The order of sums may differ by a bit of f32, which may move a value that lies on a border by one code.
            before = form.encode(base[slot.name].view(slot.rows, slot.cols))
            expected = form.decode(form.encode(merged.view(slot.rows, slot.cols), before)).view(slot.shape)
            different = (weights.value(slot) - expected).abs() > 1e-5 * expected.abs()
            assert different.float().mean() < 0.01, slot.name
        else:
            assert torch.allclose(weights.value(slot), merged, rtol=1e-5, atol=1e-6), slot.name


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("place", ["resident", "pinned", "file"])
def test_there_and_back_gives_the_same_bits_from_every_place(tmp_path, place, name):
    shapes = flux()
    weights = quant_engine(tmp_path, shapes, place, name)
    clean = bits(weights)
    assert torch.equal(clean, bits(quant_engine(tmp_path, shapes, "resident", name)))
    one = stack_of(tmp_path, shapes, weights, (1, 1.0))
    swap(weights, one)
    first = bits(weights)
    assert not torch.equal(first, clean)
    swap(weights, stack_of(tmp_path, shapes, weights, (2, 0.5), (1, 0.3)))
    swap(weights, one)
    assert torch.equal(bits(weights), first)
    swap(weights, [])
    assert torch.equal(bits(weights), clean)


def test_scales_grow_with_what_an_adapter_adds(tmp_path):
    shapes = flux()
    weights = quant_engine(tmp_path, shapes)
    slot = next(weights.layout.slots[index] for index in weights.stored.coded if "_mlp.0" in weights.layout.slots[index].name)
    before = weights.stored.parts(slot, weights.live)["scale"].clone()
    swap(weights, stack_of(tmp_path, shapes, weights, (1, 100.0)))
    after = weights.stored.parts(slot, weights.live)
    assert (after["scale"] > 2 * before).float().mean() > 0.9
    # Grown by powers of two: the largest code is more than half of the largest that there is.
    assert after["codes"].float().abs().amax(1).ge(224).all()


# The host reads a second base beside the first only on the device.
@pytest.mark.parametrize(("place", "stage"), [("resident", True), ("resident", False), ("pinned", False), ("file", False)])
def test_another_checkpoint_and_back(tmp_path, place, stage):
    shapes = flux()
    weights = quant_engine(tmp_path, shapes, place)
    clean = bits(weights)
    swap(weights, stack_of(tmp_path, shapes, weights, (1, 1.0)), reader=reader(tmp_path, shapes, 1), full=True, stage=stage)
    other = quant_engine(tmp_path, shapes, place, seed=1)
    swap(other, stack_of(tmp_path, shapes, other, (1, 1.0)))
    assert torch.equal(bits(weights), bits(other))
    swap(weights, [], reader=reader(tmp_path, shapes, 0), full=True, stage=stage)
    assert torch.equal(bits(weights), clean)


@pytest.mark.parametrize("place", ["resident", "file"])
def test_checksums_are_those_that_prepare_computed(tmp_path, place):
    shapes = flux()
    weights = quant_engine(tmp_path, shapes, place)
    prepared = weights.prepare(stack_of(tmp_path, shapes, weights, (1, 0.8)), full=True, verify=True)
    weights.commit(prepared)
    assert len(prepared.sha256) == len(weights.layout.slots)
    assert weights.checksums(prepared.sha256) == prepared.sha256


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_merge_that_becomes_infinite_is_refused_and_changes_nothing(tmp_path):
    shapes = flux()
    weights = quant_engine(tmp_path, shapes)
    clean = bits(weights)
    with pytest.raises(HostFailure) as failure:
        swap(weights, stack_of(tmp_path, shapes, weights, (1, 3e39)))
    assert failure.value.code == "HOST_NON_FINITE"
    assert torch.equal(bits(weights), clean)


def test_idle_weights_leave_and_come_back_as_they_were(tmp_path):
    shapes = flux()
    weights = quant_engine(tmp_path, shapes)
    for stack in ([], stack_of(tmp_path, shapes, weights, (1, 1.0))):
        swap(weights, stack)
        before = values(weights)
        assert weights.offload() > weights.weight_bytes
        weights.come_back()
        assert all(torch.equal(value, before[name]) for name, value in values(weights).items())
        swap(weights, stack_of(tmp_path, shapes, weights, (2, 0.4)))
        swap(weights, stack)
        assert all(torch.equal(value, before[name]) for name, value in values(weights).items())


def test_quantised_weights_take_the_room_of_their_format(tmp_path):
    shapes = flux()
    sizes = {name: quant_engine(tmp_path, shapes, name=name).weight_bytes for name in FORMATS}
    plain = sum(2 * torch.Size(shape).numel() for shape in shapes.values())
    assert sizes["nvfp4"] < sizes["fp8"] < 0.85 * plain
