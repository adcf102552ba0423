"""A refit's factors stay in memory from its preparation to its commit, and their largest magnitudes are found whatever the dtype."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from engines import CPU, UNET, image, whole_engine
from refit_host.failure import HostFailure
from refit_host.files.delta import StackFile, read_delta
from refit_host.host import engine as host_engine
from refit_host.host.engine import Engine
from refit_host.weights import read_factors as reading
from refit_host.weights.image import ImageCache
from refit_host.weights.read_factors import Span, _largest, read_factors

from bench.gpu import data


def test_factors_outlive_a_merge_that_knows_only_their_addresses(tmp_path):
    weights = whole_engine(tmp_path, UNET)
    factors: list[weakref.ref] = []

    def by_address(layout, table, buffers, device, group):
        factors.extend(weakref.ref(buffer) for buffer in buffers)
        return {}

    weights._prepare_merge = by_address
    prepared = weights.prepare([(image(tmp_path, UNET, weights.layout, 1), 0.7)])
    gc.collect()
    assert factors and all(factor() is not None for factor in factors)
    weights.commit(prepared)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_largest_magnitude(dtype):
    name = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3"}[dtype]
    raw = lambda values: memoryview(torch.tensor(values).to(dtype).view(torch.uint8).numpy())  # noqa: E731
    assert _largest(raw([0.5, -3.0, 1.0]), name) == 3.0
    assert _largest(raw([-0.0]), name) == 0.0
    assert np.isnan(_largest(raw([float("nan"), 1.0]), name))
    assert _largest(memoryview(b""), name) == 0.0
    if dtype != torch.float8_e4m3fn:
        assert np.isinf(_largest(raw([float("-inf"), 1.0]), name))


def test_every_factor_is_where_it_was_asked_for_however_the_file_is_shared_out(tmp_path, monkeypatch):
    file = read_delta(data.adapter(tmp_path, UNET, CPU, 1, 4))
    monkeypatch.setattr(reading, "SHARE_BYTES", 1000)
    begin, spans = 0, []
    # Not in the order of the file.
    for name in sorted(file.entries, reverse=True):
        spans.append(Span(name, begin, file.entries[name]))
        begin += file.entries[name].end - file.entries[name].begin + 64
    block, largest = read_factors(file, spans, begin)
    whole = file.path.read_bytes()
    for name, at, entry in spans:
        raw = block[at : at + entry.end - entry.begin]
        assert raw.numpy().tobytes() == whole[entry.begin : entry.end]
        assert largest[name] == raw.view(torch.float16).abs().max()


def test_a_stack_is_read_side_by_side_and_keeps_its_order(tmp_path):
    weights = whole_engine(tmp_path, UNET)
    engine = Engine(weights, None, frozenset(), ImageCache(1 << 30))
    paths = [data.adapter(tmp_path, UNET, CPU, seed, 4) for seed in (1, 2, 3)]
    files = [StackFile(path, read_delta(path).adapter, 0.25 * (number + 1)) for number, path in enumerate(paths)]
    stack = (*files, replace(files[0], strength=-1.0))
    read = engine.images(stack)
    assert [(image.file.adapter, strength) for image, strength in read] == [(item.sha256, item.strength) for item in stack]
    assert read[0][0] is read[3][0]
    assert [image for image, _ in engine.images(stack)] == [image for image, _ in read]


def test_adapters_that_are_known_start_no_threads_and_neither_does_a_single_one(tmp_path, monkeypatch):
    engine = Engine(whole_engine(tmp_path, UNET), None, frozenset(), ImageCache(1 << 30))
    paths = [data.adapter(tmp_path, UNET, CPU, seed, 4) for seed in (1, 2, 3)]
    stack = tuple(StackFile(path, read_delta(path).adapter, 0.5) for path in paths)
    read = engine.images(stack[:2])
    monkeypatch.setattr(host_engine, "ThreadPoolExecutor", None)
    assert engine.images(stack[:2]) == read
    assert engine.images(stack)[:2] == read


def test_one_damaged_file_of_a_stack_is_refused_and_the_others_can_be_used(tmp_path):
    weights = whole_engine(tmp_path, UNET)
    engine = Engine(weights, None, frozenset(), ImageCache(1 << 30))
    good, bad = (data.adapter(tmp_path, UNET, CPU, seed, 4) for seed in (1, 2))
    entry = next(iter(read_delta(bad).entries.values()))
    stack = tuple(StackFile(path, read_delta(path).adapter, 1.0) for path in (good, bad))
    with bad.open("r+b") as file:
        file.seek(entry.begin)
        file.write(b"\x01\x02\x03\x04")
    with pytest.raises(HostFailure) as failure:
        engine.images(stack)
    assert failure.value.code == "HOST_DELTA_INVALID"
    assert len(engine.images(stack[:1])) == 1
