"""Weights of an idle engine leave the device and come back bit for bit, in use they stay; a module bound to them never notices."""

from __future__ import annotations

import pytest
import torch
from engines import UNET, image, streamed_engine, swap, values, whole_engine
from exported_cases import step_inputs
from refit_graphs.families import plan
from refit_host.failure import HostFailure
from refit_host.host.engine import Engine
from refit_host.models.bind import bind
from refit_host.models.registry import spec_of
from refit_host.weights import offload
from refit_host.weights.image import ImageCache


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """A model that may be compiling."""

    busy, tier = False, "eager"
    sent_away = 0

    def offload(self) -> None:
        self.sent_away += 1


@pytest.mark.parametrize("place", ["resident", "pinned", "file"])
def test_weights_come_back_as_they_were_whatever_holds_the_base(tmp_path, place):
    weights = whole_engine(tmp_path, UNET, place)
    spec = spec_of(UNET)
    module = bind(spec.build(), spec, weights.layout, weights.live)
    inputs = step_inputs(plan(dict(UNET)))
    for stack in ([], [(image(tmp_path, UNET, weights.layout, 1), 0.7)], []):
        swap(weights, stack)
        before, output = values(weights), spec.forward(module, inputs)
        freed = weights.offload()
        assert freed == weights.live.numel() * (2 if place == "resident" else 1)
        assert weights.away and weights.device_bytes == 0
        assert weights.offload() == 0
        weights.come_back()
        assert not weights.away
        assert all(torch.equal(value, before[name]) for name, value in values(weights).items())
        assert torch.equal(spec.forward(module, inputs), output)


def test_streamed_weights_leave_and_come_back(tmp_path):
    weights, module = streamed_engine(tmp_path, 0.5)
    spec, inputs = spec_of(UNET), step_inputs(plan(dict(UNET)))
    swap(weights, [(image(tmp_path, UNET, weights.layout, 1), 0.7)])
    output = spec.forward(module, inputs)
    assert weights.offload() == weights.live.numel() + sum(buffer.numel() for buffer in weights.buffers)
    assert weights.device_bytes == 0
    weights.come_back()
    assert torch.equal(spec.forward(module, inputs), output)


def test_an_engine_goes_only_when_nobody_used_it_for_the_time_and_nothing_needs_it(tmp_path):
    clock, model = Clock(), Model()
    engine = Engine(whole_engine(tmp_path, UNET), model, frozenset(), ImageCache(1 << 20), now=clock)
    clock.now = 50
    with engine.present():
        clock.now = 100
        assert engine.offload(idle_seconds=10) == 0
    clock.now = 109
    assert engine.offload(idle_seconds=10) == 0
    model.busy = True
    clock.now = 200
    assert engine.offload(idle_seconds=10) == 0
    model.busy = False
    assert engine.offload(idle_seconds=10) > 0
    assert model.sent_away == 1
    with engine.present() as present:
        assert not present.weights.away


def test_weights_stay_when_the_host_has_no_room_for_them(tmp_path, monkeypatch):
    weights = whole_engine(tmp_path, UNET, "resident")
    before = values(weights)
    monkeypatch.setattr(offload, "free_bytes", lambda: 1000)
    with pytest.raises(HostFailure) as failure:
        weights.offload()
    assert failure.value.code == "HOST_OUT_OF_MEMORY"
    assert not weights.away
    assert all(torch.equal(value, before[name]) for name, value in values(weights).items())


def test_weights_that_find_no_device_memory_stay_away_and_can_try_again(tmp_path, monkeypatch):
    weights = whole_engine(tmp_path, UNET, "resident")
    before = values(weights)
    weights.offload()
    real, calls = torch.UntypedStorage.resize_, []

    def too_little(storage, size):
        calls.append(size)
        if size and len(calls) == 2:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")
        return real(storage, size)

    monkeypatch.setattr(torch.UntypedStorage, "resize_", too_little)
    with pytest.raises(torch.OutOfMemoryError):
        weights.come_back()
    assert weights.away and weights.device_bytes == 0
    monkeypatch.undo()
    weights.come_back()
    assert all(torch.equal(value, before[name]) for name, value in values(weights).items())
