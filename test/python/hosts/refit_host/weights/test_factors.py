"""Which factors stay on the device between refits, and that they leave when their memory is wanted."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from engines import UNET, image, values, whole_engine
from refit_host.failure import HostFailure
from refit_host.files.delta import StackFile
from refit_host.host.engine import Engine
from refit_host.weights.factors import SPARE_BYTES, FactorCache
from refit_host.weights.image import ImageCache

from bench.gpu import data

PLENTY = lambda: 1 << 40  # noqa: E731


def cache(kept_bytes: int = 100) -> tuple[FactorCache, list[int]]:
    uploads: list[int] = []

    def upload(source: torch.Tensor) -> torch.Tensor:
        uploads.append(int(source[0]))
        return source.clone()

    return FactorCache(upload, kept_bytes), uploads


def source(number: int, count: int = 40) -> torch.Tensor:
    return torch.full((count,), number, dtype=torch.uint8)


def test_factors_used_last_are_uploaded_once():
    held, uploads = cache()
    one, two, three = (source(number) for number in (1, 2, 3))
    for item in (one, two, one, two):
        assert torch.equal(held.get(item, PLENTY), item)
    assert uploads == [1, 2]
    held.get(three, PLENTY)  # the oldest, one, goes
    held.get(two, PLENTY)
    held.get(one, PLENTY)
    assert uploads == [1, 2, 3, 1] and held.nbytes == 80


def test_nothing_is_kept_without_room_and_what_is_too_large_never():
    held, uploads = cache()
    for free in (None, lambda: SPARE_BYTES - 1):
        held.get(source(1), free)
    held.get(source(2, 101), PLENTY)
    assert held.nbytes == 0 and uploads == [1, 1, 2]


def test_the_driver_is_asked_for_more_memory_alone():
    held, _ = cache()
    asked = []

    def free() -> int:
        asked.append(1)
        return 1 << 40

    for number in (1, 2, 3, 4, 5):
        held.get(source(number), free)
    assert len(asked) == 2 and held.nbytes == 80
    held.clear()
    held.get(source(1), free)
    assert len(asked) == 3


def test_a_source_that_is_gone_is_not_mistaken_for_another_at_its_address():
    held, uploads = cache()
    for number in range(20):
        assert int(held.get(source(number), PLENTY)[0]) == number
    assert uploads == list(range(20))


def test_a_refit_from_kept_factors_gives_the_same_bits(tmp_path):
    weights = whole_engine(tmp_path, UNET)
    pictures = [image(tmp_path, UNET, weights.layout, seed) for seed in (1, 2)]

    def to(index: int, strength: float, free=PLENTY) -> dict:
        weights.commit(weights.prepare([(pictures[index], strength)], free=free))
        return {name: value.clone() for name, value in values(weights).items()}

    first = to(0, 0.7)
    other = to(1, 0.7)
    assert weights._factors.nbytes > 0
    again = to(0, 0.7)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert weights.let_go_of_factors() and not weights.let_go_of_factors()
    assert all(torch.equal(value, first[name]) for name, value in to(0, 0.7, None).items())


def test_factors_leave_with_idle_weights(tmp_path):
    weights = whole_engine(tmp_path, UNET)
    weights.commit(weights.prepare([(image(tmp_path, UNET, weights.layout, 1), 0.7)], free=PLENTY))
    weights.offload()
    assert weights._factors.nbytes == 0


@pytest.mark.parametrize("place", ["resident", "pinned", "file"])
def test_factors_stay_only_beside_a_base_on_the_device(tmp_path, place):
    weights = SimpleNamespace(base=SimpleNamespace(place=place), device=torch.device("cpu"))
    engine = Engine.__new__(Engine)
    engine.weights = weights
    assert (engine._room_for_factors(None) is not None) == (place == "resident")


@pytest.mark.parametrize(("held", "works"), [(True, True), (False, False)])
def test_a_step_without_memory_is_tried_again_without_kept_factors(held, works):
    engine = Engine.__new__(Engine)
    turns = []

    def step(inputs):
        turns.append(inputs)
        if len(turns) == 1:
            raise torch.OutOfMemoryError("full")
        return inputs

    engine.weights = SimpleNamespace(let_go_of_factors=lambda: held, known=True)
    engine.model, engine.generation = SimpleNamespace(step=step), 3
    if works:
        assert engine.step({"sample": 1}, 3) == {"sample": 1}
    else:
        with pytest.raises(torch.OutOfMemoryError):
            engine.step({}, 3)
    with pytest.raises(HostFailure, match="generation"):
        engine.step({}, 2)


def test_an_adapters_image_stays_though_the_sidecar_notes_its_use_and_no_other_engine_takes_it(tmp_path):
    """The sidecar keeps the order of use in the files' times, while the host reads them."""
    images = ImageCache(1 << 30)
    first, second = (Engine(whole_engine(tmp_path, UNET), None, frozenset(), images) for _ in range(2))
    path = data.adapter(tmp_path, UNET, torch.device("cpu"), 1, 4)
    stack = (StackFile(path, f"{1:064x}", 0.5),)
    ((kept, _),) = first.images(stack)
    os.utime(path, (1, 1))
    assert first.images(stack)[0][0] is kept
    assert second.images(stack)[0][0] is not kept
    replaced = tmp_path / "new"
    replaced.write_bytes(path.read_bytes())
    os.replace(replaced, path)
    assert first.images(stack)[0][0] is not kept
