"""An engine whose weights do not fit, against the same engine whole: same weights after any refit, same outputs, whatever the copies' timing."""

from __future__ import annotations

import pytest
import torch
from engines import UNET, image, reader, streamed_engine, swap, values, whole_engine
from exported_cases import CASES, step_inputs
from family_structures import STRUCTURES, with_the_rest_later
from refit_graphs.families import plan
from refit_host.failure import HostFailure
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from refit_host.models.units import units_of
from refit_host.torch_engine.block_stream import DirectCopier
from refit_host.weights.split import BUFFERS, Unit, choose_streamed
from step_inputs import inputs_of


class LastMoment(DirectCopier):
    """Copies as late as the contract allows: a block that does not wait runs on the weights of another."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def start(self, buffer, target, source):
        target.fill_(255)  # the buffer is given away: whoever still reads it sees NaN
        self._waiting[buffer] = (target, source)

    def wait(self, buffer):
        if buffer in self._waiting:
            target, source = self._waiting.pop(buffer)
            target.copy_(source)

    def end(self):
        for buffer in list(self._waiting):
            self.wait(buffer)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("copier", [DirectCopier, LastMoment])
def test_a_streamed_engine_computes_what_the_whole_one_does(tmp_path, share, copier):
    whole = whole_engine(tmp_path, UNET)
    spec = spec_of(UNET)
    reference = bind(spec.build(), spec, whole.layout, whole.live)
    weights, module = streamed_engine(tmp_path, share, copier=copier())
    assert len(weights.split.blocks) > (1 if share < 1 else BUFFERS + 1)
    inputs = step_inputs(plan(dict(UNET)))
    for stack in ([], [(1, 1.0)], [(1, 0.5), (2, -0.7)], []):
        for engine in (whole, weights):
            swap(engine, [(image(tmp_path, UNET, engine.layout, seed), strength) for seed, strength in stack])
        expected = values(whole)
        for name, value in values(weights).items():
            assert torch.equal(value, expected[name]), name
        assert torch.equal(spec.forward(module, inputs), spec.forward(reference, inputs))
        assert torch.equal(spec.forward(module, inputs), spec.forward(reference, inputs))


def test_a_streamed_engine_takes_another_checkpoint_and_comes_back(tmp_path):
    weights, module = streamed_engine(tmp_path, 0.7)
    before = values(weights)
    swap(weights, [(image(tmp_path, UNET, weights.layout, 1), 1.0)], reader=reader(tmp_path, UNET, 1), full=True)
    other = whole_engine(tmp_path, UNET)
    swap(other, [(image(tmp_path, UNET, other.layout, 1), 1.0)], reader=reader(tmp_path, UNET, 1), full=True)
    expected = values(other)
    assert all(torch.equal(value, expected[name]) for name, value in values(weights).items())
    swap(weights, [], reader=reader(tmp_path, UNET, 0), full=True)
    assert all(torch.equal(value, before[name]) for name, value in values(weights).items())


def test_checksums_of_a_streamed_engine_are_those_that_prepare_computed(tmp_path):
    weights, _ = streamed_engine(tmp_path, 0.5)
    prepared = weights.prepare([(image(tmp_path, UNET, weights.layout, 1), 0.8)], full=True, verify=True)
    weights.commit(prepared)
    assert weights.checksums(prepared.sha256) == prepared.sha256
    assert len(prepared.sha256) == len(weights.layout.slots)


@pytest.mark.parametrize("case", CASES)
def test_units_are_entered_in_their_order_by_every_family(case):
    shapes = CASES[case]()
    spec = spec_of(shapes)
    units = units_of(spec)
    assert len({name for unit in units for name in unit.parameters}) > len(shapes) / 2
    layout = layout_of(spec, shapes, torch.float32, channels_last=False)
    module = bind(spec.build(), spec, layout, torch.zeros(layout.nbytes, dtype=torch.uint8))
    entered = []
    for unit in units:
        module.get_submodule(unit.path).register_forward_pre_hook(lambda *_, path=unit.path: entered.append(path))
    spec.forward(module, step_inputs(plan(dict(shapes))))
    assert entered == [unit.path for unit in units]


@pytest.mark.parametrize("name", with_the_rest_later("z-image", "wan22-a14b", "hunyuan-video", "ltx2"))
def test_a_family_without_a_graph_streams_its_blocks(tmp_path, name):
    """Before and after a refit, which leaves other values in the buffers."""
    shapes = {key: shape for key, shape in STRUCTURES[name]().items() if 0 not in shape}
    spec = spec_of(STRUCTURES[name]())
    whole = whole_engine(tmp_path, shapes, spec=spec)
    reference = bind(spec.build(), spec, whole.layout, whole.live)
    weights, module = streamed_engine(tmp_path, 1.0, shapes, LastMoment(), spec=spec)
    inputs = inputs_of(spec)
    for stack in ([], [(1, 1.0)], []):
        for engine in (whole, weights):
            swap(engine, [(image(tmp_path, shapes, engine.layout, seed), strength) for seed, strength in stack])
        expected = spec.forward(reference, inputs)
        assert torch.isfinite(expected).all()
        assert torch.equal(spec.forward(module, inputs), expected)
        assert torch.equal(spec.forward(module, inputs), expected)


def test_the_streamed_units_free_the_wanted_room_and_lie_apart():
    units = [Unit(f"b{number}", (f"p{number}",)) for number in range(20)]
    sizes = {f"p{number}": 1024 * 256 for number in range(20)} | {"rest": 512 * 256}
    total = sum(sizes.values())
    for missing in (1, 5, 12):
        room = total - missing * 1024 * 256 + BUFFERS * 1024 * 256
        chosen = choose_streamed(units, sizes, room)
        assert missing <= len(chosen) <= missing + 1
        places = [int(unit.path[1:]) for unit in chosen]
        gaps = [b - a for a, b in zip(places, places[1:])]
        assert not gaps or max(gaps) - min(gaps) <= 1
    assert choose_streamed(units, sizes, total + BUFFERS * 1024 * 256) == []


def test_a_device_too_small_even_for_streaming_is_named_with_what_is_needed():
    with pytest.raises(HostFailure) as failure:
        choose_streamed([Unit("b", ("p",))], {"p": 1 << 20, "rest": 1 << 20}, 2 << 20)
    assert failure.value.code == "HOST_OUT_OF_MEMORY"
    assert failure.value.evidence["bytes"] == (1 << 20) + BUFFERS * (1 << 20)
