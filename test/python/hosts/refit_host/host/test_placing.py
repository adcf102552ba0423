"""How a load divides the device: whole when it fits, asked for room once when the UI holds it, streamed otherwise; and what a failure says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from engines import CPU, UNET
from refit_host.failure import HostFailure
from refit_host.host.host import translate
from refit_host.host.options import parse_options
from refit_host.models.bind import layout_of
from refit_host.models.registry import spec_of
from refit_host.torch_engine import placing
from refit_host.weights.memory import Budget
from refit_host.weights.stream import Ring
from refit_host.weights.streamed import StreamedWeights

SPEC = spec_of(UNET)
WHOLE = layout_of(SPEC, UNET, torch.float32, channels_last=False).nbytes


def host(*arguments: str):
    return SimpleNamespace(device=CPU, ring=Ring(CPU), options=parse_options(list(arguments)), asked_for_room=set())


def place(given):
    return placing.place_weights(SPEC, UNET, torch.float32, given, "e")


def test_weights_that_fit_stay_whole():
    placed = place(host())
    assert not isinstance(placed.weights, StreamedWeights)
    assert placed.weights.live.numel() == WHOLE


def test_a_limit_for_weights_streams_the_rest_without_asking(monkeypatch):
    weights = place(host("--weights-mib", "9")).weights
    assert isinstance(weights, StreamedWeights)
    assert weights.live.numel() + sum(buffer.numel() for buffer in weights.buffers) <= 9 << 20


def test_room_that_others_hold_is_asked_for_once_then_weights_are_streamed(monkeypatch):
    monkeypatch.setattr(placing, "device_budget", lambda device, cap: Budget(9 << 20, 1 << 40))
    given = host()
    with pytest.raises(HostFailure) as failure:
        place(given)
    assert failure.value.code == "HOST_OUT_OF_MEMORY"
    assert failure.value.evidence["streams"] is True
    assert failure.value.evidence["bytes"] >= WHOLE
    assert isinstance(place(given).weights, StreamedWeights)


@pytest.mark.parametrize("freed", [False, True])
def test_a_later_load_asks_again(monkeypatch, freed):
    free = 9 << 20
    monkeypatch.setattr(placing, "device_budget", lambda device, cap: Budget(free, 1 << 40))
    given = host()
    with pytest.raises(HostFailure):
        place(given)
    free = WHOLE if freed else free
    assert isinstance(place(given).weights, StreamedWeights) is not freed
    free = 9 << 20
    with pytest.raises(HostFailure) as failure:
        place(given)
    assert failure.value.evidence["streams"] is True


def test_a_device_that_is_too_small_in_itself_streams_at_once(monkeypatch):
    monkeypatch.setattr(placing, "device_budget", lambda device, cap: Budget(9 << 20, 1 << 40))
    monkeypatch.setattr(placing, "most_bytes", lambda device, cap: 11 << 20)
    assert isinstance(place(host()).weights, StreamedWeights)


def test_host_memory_that_cannot_hold_streamed_weights_is_a_failure_with_figures(monkeypatch):
    monkeypatch.setattr(placing, "free_bytes", lambda: 1000)
    with pytest.raises(HostFailure) as failure:
        place(host("--weights-mib", "9"))
    assert failure.value.evidence["bytes"] > WHOLE
    assert failure.value.evidence["freeBytes"] == 1000


@pytest.mark.parametrize(("text", "wanted"), [
    ("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has", 3 << 29), ("tried to allocate 20.00 MiB", 20 << 20), ("no figures", 1 << 30),
])  # fmt: skip
def test_want_of_memory_says_how_much_lacked_and_what_to_reduce(text, wanted):
    failure = translate(torch.OutOfMemoryError(text))
    assert failure.code == "HOST_OUT_OF_MEMORY"
    assert failure.evidence["bytes"] == wanted
    assert failure.evidence["freeBytes"] > 0
    assert "GiB free" in failure.message and "smaller picture" in failure.message
