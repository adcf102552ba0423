"""Tensors known by their place in a file: believed without hashing, never when file or tensor changed, and never instead of a comparison."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from refit_sidecar_plugin.files import stamp
from refit_sidecar_plugin.stack import Patch, Target, TensorRef
from refit_sidecar_plugin.stack.patches import settle
from refit_sidecar_plugin.ui.denoising.origins import Origins, follow_loads
from refit_sidecar_plugin.ui.denoising.tensors import Digests, raw_bytes
from safetensors import safe_open
from safetensors.torch import save_file


def load(path):
    """As ComfyUI reads a file."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


@pytest.fixture
def adapter(tmp_path):
    path = str(tmp_path / "a.safetensors")
    save_file({"up": torch.randn(64, 8), "down": torch.randn(8, 64).half(), "alpha": torch.tensor(4.0)}, path)
    return path


def noted(origins, path):
    module = SimpleNamespace(load=load)
    follow_loads(module, "load", origins, lambda _: True)
    return module.load(path)


def test_two_loads_of_one_file_have_the_same_origins_and_nothing_is_hashed(adapter):
    origins = Origins()
    first, second = noted(origins, adapter), noted(origins, adapter)
    origins.begin()
    names = {key: origins.of(value) for key, value in first.items()}
    assert None not in names.values() and len(set(names.values())) == 3
    assert names == {key: origins.of(value) for key, value in second.items()}


def test_a_tensor_that_was_changed_in_place_is_not_believed_from_the_next_stack_on(adapter):
    origins = Origins()
    tensors = noted(origins, adapter)
    with torch.inference_mode():
        tensors["up"].mul_(0.5)
    origins.begin()
    assert origins.of(tensors["up"]) is None and origins.of(tensors["down"]) is not None


def test_a_change_that_no_sample_meets_is_found_in_the_background(tmp_path):
    path = str(tmp_path / "large.safetensors")
    save_file({"up": torch.randn(512, 512)}, path)
    changed = threading.Event()
    origins = Origins(changed.set)
    tensors = noted(origins, path)
    origins.begin()
    assert origins.of(tensors["up"]) is not None
    tensors["up"][0, 0] += 1
    origins.verify()
    assert changed.wait(20)
    origins.begin()
    assert origins.of(tensors["up"]) is None


def test_a_file_that_is_replaced_or_gone_gives_no_origin_and_a_copy_another(adapter, tmp_path):
    origins = Origins()
    tensors = noted(origins, adapter)
    copy = str(tmp_path / "b.safetensors")
    save_file(dict(tensors), copy)
    copied = noted(origins, copy)
    origins.begin()
    assert origins.of(copied["up"]) not in (None, origins.of(tensors["up"]))
    os.replace(copy, adapter)
    origins.begin()
    assert origins.of(tensors["up"]) is None and origins.of(copied["up"]) is None


def test_a_file_that_changed_while_it_was_read_and_files_of_no_concern_give_no_notes(adapter):
    origins = Origins()
    tensors = load(adapter)
    before = stamp(adapter)
    os.utime(adapter, (1, 1))
    origins.note(adapter, before, tensors)
    module = SimpleNamespace(load=load)
    follow_loads(module, "load", origins, lambda _: False)
    others = module.load(adapter)
    origins.begin()
    assert [origins.of(value) for value in (*tensors.values(), *others.values())] == [None] * 6


@pytest.mark.parametrize(
    "content",
    [b"", b"12345678", (2**40).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]", (9).to_bytes(8, "little") + b'{"up": 1}'],
)
def test_a_damaged_header_gives_no_notes_and_no_error(tmp_path, content):
    path = str(tmp_path / "x.safetensors")
    with open(path, "wb") as file:
        file.write(content)
    Origins().note(path, stamp(path), {"up": torch.zeros(1)})


def test_patches_of_one_place_are_equal_without_a_digest_and_others_are_compared(adapter):
    digests = Digests(Origins())
    hashed: list[int] = []

    def patch(tensors, key):
        value = tensors[key]

        def digest():
            hashed.append(1)
            return digests.of(value)

        return Patch(
            Target("w"),
            "diff",
            (("diff", TensorRef("F32", tuple(value.shape), digest, lambda: bytes(raw_bytes(value)), lambda: digests.origins.of(value))),),
        )

    live, file, unknown = (
        patch(noted(digests.origins, adapter), "up"),
        patch(noted(digests.origins, adapter), "up"),
        patch(load(adapter), "up"),
    )
    digests.origins.begin()
    assert live.same_values(file) and hashed == []
    frozen = file.frozen()
    assert live.same_values(frozen) and hashed == []
    assert unknown.same_values(frozen) and len(hashed) == 2
    settle([frozen])
    assert len(hashed) == 2


def test_a_whole_comparison_lets_other_threads_run(tmp_path):
    """Two memoryviews would be compared with the interpreter's lock held: a sampler beside it stood still for 2 ms a megabyte."""
    path = tmp_path / "large.safetensors"
    save_file({"x": torch.arange(24 << 20, dtype=torch.int32)}, path)
    origins, module = Origins(), SimpleNamespace(load=load)
    follow_loads(module, "load", origins, lambda _: True)
    tensors = module.load(str(path))
    origins.begin()
    assert origins.of(tensors["x"]) is not None
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0)

    other = threading.Thread(target=tick, daemon=True)
    other.start()
    compared = origins_equal(tensors["x"], origins._places[id(tensors["x"])][1])
    done.set()
    other.join()
    assert compared and len(ticks) > 50


def origins_equal(tensor: torch.Tensor, place) -> bool:
    from refit_sidecar_plugin.ui.denoising.origins import _equal

    return _equal(tensor, place)
