"""The tensorrt host on the simulated library: what it builds, keeps, refuses and says. The conformance suite (test/hosts/tensorrt.test.ts) has the rest."""

from __future__ import annotations

import gc
import json

import pytest
import torch
from refit_host.failure import HostFailure
from refit_host.weights.memory import Budget
from refit_tensorrt import maker, making
from refit_tensorrt.making import Making
from tensorrt_bench import DEMO, DEMO_CHECKPOINT, Bench, demo_inputs, lora, simulation, source

# A minute or more on two cores: with the long tests.
pytestmark = pytest.mark.e2e

Q = {f"input_blocks.1.1.transformer_blocks.0.attn1.{part}.weight": (32, 32) for part in ("to_q", "to_k", "to_out.0")}
NAMES = list(Q)
INPUTS = demo_inputs()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that holds the demo engine, built and checked once."""
    folder = tmp_path_factory.mktemp("engines")
    folder.chmod(0o700)
    with simulation():
        bench = Bench(folder)
        bench.load()
        assert bench.built == 1
    return folder


@pytest.fixture
def simulated():
    with simulation() as device:
        yield device


def refusal(action, code: str) -> HostFailure:
    with pytest.raises(HostFailure) as caught:
        action()
    assert caught.value.code == code
    return caught.value


def test_an_engine_file_holds_no_weights_and_its_manifest_says_how_it_was_checked(store):
    (facts,) = (json.loads(path.read_text()) for path in store.glob("*/facts.json"))
    assert facts["error"] < 1e-4
    assert facts["torchTier"] == "eager"
    (plan,) = store.glob("*/engine.plan")
    assert plan.stat().st_size < 1 << 20


def test_which_host_was_faster_is_recorded_for_the_sidecar(store):
    (path,) = store.glob("choice-*.json")
    record = json.loads(path.read_text())
    assert record["chosen"] == ("tensorrt" if record["tensorrtMs"] < record["torchMs"] else "torch")
    assert record["dtype"] == "f32"


def test_a_second_start_loads_the_stored_engine(store, simulated):
    bench = Bench(store)
    bench.load()
    assert bench.built == 0
    assert bench.step(INPUTS).isfinite().all()


def test_another_library_version_builds_again(store, tmp_path):
    with simulation(VERSION="1.8.0"):
        bench = Bench(store)
        bench.load()
        assert bench.built == 1


@pytest.fixture
def compared(monkeypatch) -> list[int]:
    """Grows with every comparison of a new engine with PyTorch."""
    found: list[int] = []
    compare = Making._compare
    monkeypatch.setattr(Making, "_compare", lambda *args: found.append(1) or compare(*args))
    return found


def test_a_finer_difference_is_proven_against_pytorch_before_it_serves(tmp_path, compared):
    tmp_path.chmod(0o700)
    with simulation():
        Bench(tmp_path).load()
        first = len(compared)
        Bench(tmp_path).load()
        assert len(compared) == first
        (manifest,) = tmp_path.glob("*/manifest.json")
        # As if another computer had made it: imported, or with another driver.
        manifest.write_text(manifest.read_text().replace('"origin": "own"', f'"origin": "{"f" * 64}"'))
        bench = Bench(tmp_path)
        bench.load()
        assert bench.built == 0 and len(compared) > first
        proven = len(compared)
        Bench(tmp_path).load()
        assert len(compared) == proven


def test_a_recovery_is_proven_against_pytorch_because_no_weight_can_be_read_back(tmp_path, compared):
    tmp_path.chmod(0o700)
    with simulation():
        Bench(tmp_path).load()
        first = len(compared)
        bench = Bench(tmp_path)
        bench.call(
            "load",
            engine="e",
            graph={"folder": str(DEMO), "variant": "fp32"},
            weightDtype="f32",
            checkpoint=source(DEMO_CHECKPOINT),
            stack=[],
            verify=True,
        )
        assert bench.built == 0 and len(compared) > first


def test_an_engine_of_elsewhere_that_computes_other_numbers_is_built_again(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    with simulation():
        Bench(tmp_path).load()
        (manifest,) = tmp_path.glob("*/manifest.json")
        manifest.write_text(manifest.read_text().replace('"origin": "own"', f'"origin": "{"f" * 64}"'))
        away = iter([1.0])
        real = making.difference
        monkeypatch.setattr(making, "difference", lambda *args: next(away, None) or real(*args))
        bench = Bench(tmp_path)
        bench.load()
        assert bench.built == 1
        assert bench.step(INPUTS).isfinite().all()


def test_a_damaged_engine_file_is_built_again(tmp_path, simulated):
    tmp_path.chmod(0o700)
    Bench(tmp_path).load()
    (plan,) = tmp_path.glob("*/engine.plan")
    plan.write_bytes(plan.read_bytes()[:-1] + b"x")
    bench = Bench(tmp_path)
    bench.load()
    assert bench.built == 1


def test_a_store_that_others_can_write_is_not_used(tmp_path, simulated):
    tmp_path.chmod(0o777)
    Bench(tmp_path).load()
    assert list(tmp_path.iterdir()) == []


def test_wrong_numbers_are_refused_and_remembered(tmp_path):
    tmp_path.chmod(0o700)
    with simulation(FAULTS=frozenset({"wrong-numbers"})) as device:
        bench = Bench(tmp_path)
        failure = refusal(bench.load, "HOST_ENGINE_REFUSED")
        assert "wrong numbers" in failure.message and failure.evidence["error"] > 0.1
        used = device.used_bytes()
        again = Bench(tmp_path)
        refusal(again.load, "HOST_ENGINE_REFUSED")
        assert again.built == 0
        assert device.used_bytes() <= used
    (choice,) = tmp_path.glob("choice-*.json")
    assert json.loads(choice.read_text())["chosen"] == "torch"


def test_turing_is_built_for_and_a_library_that_refuses_is_named():
    with simulation(CAPABILITY=(7, 5)):
        bench = Bench(None)
        bench.load()
        assert bench.step(INPUTS).isfinite().all()
    with simulation(CAPABILITY=(7, 5), FAULTS=frozenset({"refuse-SM75"})):
        failure = refusal(Bench(None).load, "HOST_DEVICE_UNSUPPORTED")
        assert "7.5" in failure.message and "torch host" in failure.message


def test_a_device_that_the_library_does_not_know_is_refused_by_name():
    with simulation(CAPABILITY=(9, 0)):
        failure = refusal(Bench(None).load, "HOST_DEVICE_UNSUPPORTED")
        assert "tensorrt_rtx 1.7.1.116" in failure.message and "9.0" in failure.message


def test_without_the_simulated_device_a_cpu_is_refused():
    failure = refusal(Bench(None).load, "HOST_DEVICE_UNSUPPORTED")
    assert "NVIDIA GPU" in failure.message


def test_too_little_memory_to_build_or_to_load_says_what_to_reduce(store):
    with simulation(FAULTS=frozenset({"build-out-of-memory"})):
        failure = refusal(Bench(None).load, "HOST_OUT_OF_MEMORY")
        assert "unload" in failure.message and failure.evidence["bytes"] == 1 << 32
    with simulation() as device:
        # What earlier engines left in cycles would be given back in the middle.
        gc.collect()
        before = device.used_bytes()
        taken = device.free_bytes() - (1 << 20)
        assert device.reserve(taken)
        try:
            failure = refusal(Bench(store).load, "HOST_OUT_OF_MEMORY")
        finally:
            device.reserve(-taken)
        assert "unload" in failure.message and failure.evidence["bytes"] > 1 << 20
        assert device.used_bytes() <= before


@pytest.mark.parametrize("base", ["resident", "pinned", "file"])
def test_one_copy_of_the_weights_on_the_device_beside_the_base(store, simulated, base):
    before = simulated.used_bytes()
    bench = Bench(store, "--base", base)
    size = bench.load()["bytes"]
    bench.step(INPUTS)
    copies = (simulated.used_bytes() - before) / size
    assert copies < (2.3 if base == "resident" else 1.3)
    bench.call("unload", engine="e")
    assert simulated.used_bytes() - before < size * 0.1


@pytest.mark.parametrize("base", ["resident", "pinned", "file"])
def test_a_swap_equals_a_load_with_the_stack_and_base_comes_back_bit_for_bit(store, simulated, tmp_path, base):
    stack = [lora(tmp_path, Q)]
    bench = Bench(store, "--base", base)
    bench.load("swapped")
    plain = bench.step(INPUTS, "swapped")
    assert bench.refit([], stack, NAMES, 1, "swapped") == 2
    bench.load("loaded", stack=stack)
    merged = bench.step(INPUTS, "swapped", 2)
    assert torch.equal(merged, bench.step(INPUTS, "loaded"))
    assert not torch.equal(merged, plain)
    bench.refit(stack, [], NAMES, 2, "swapped")
    assert torch.equal(bench.step(INPUTS, "swapped", 3), plain)


def test_what_readback_computes_is_what_verify_promised(store, simulated, tmp_path):
    stack = [lora(tmp_path, Q)]
    bench = Bench(store)
    bench.load(stack=stack)
    plain, _ = bench.call("checksums", engine="e", parameters=NAMES)
    _, read = bench.call("readBack", engine="e", parameters=NAMES)
    fresh = Bench(store)
    promised = fresh.call("load", engine="v", graph=None, parameters={name: list(shape) for name, shape in Q.items()}, weightDtype="f32",
                          checkpoint=source(DEMO_CHECKPOINT), stack=stack, verify=True)[0]["sha256"]  # fmt: skip
    assert promised == plain["sha256"]
    assert all(read[name].shape == shape for name, shape in Q.items())


def test_idle_weights_leave_the_device_and_come_back_with_their_stack(store, simulated, tmp_path):
    stack = [lora(tmp_path, Q)]
    before = simulated.used_bytes()
    bench = Bench(store)
    size = bench.load(stack=stack)["bytes"]
    output = bench.step(INPUTS)
    bench.call("offload", engine="e")
    assert simulated.used_bytes() - before < size * 0.1
    assert torch.equal(bench.step(INPUTS), output)
    assert bench.built == 0


def test_a_size_outside_the_profiles_is_refused_with_the_limits(store, simulated):
    bench = Bench(store)
    bench.load()
    failure = refusal(lambda: bench.step(demo_inputs(side=200)), "HOST_INPUT_INVALID")
    assert "1536 px" in failure.message and "NEEDS_RECOMPILE" in failure.message
    assert bench.step(INPUTS).isfinite().all()


def test_scratch_is_taken_for_the_shape_in_use(store, simulated):
    bench = Bench(store)
    bench.load()
    engine = bench.host._engines["e"].model.loaded
    sizes = []
    for side in (8, 32, 8):
        bench.step(demo_inputs(side))
        sizes.append(engine.scratch_bytes)
    assert sizes[1] > 10 * sizes[0] and sizes[2] == sizes[0]


@pytest.mark.parametrize("mode", ["embedded", "fixed"])
def test_engines_with_weights_inside(simulated, tmp_path, store, mode):
    stack = [lora(tmp_path, Q)]
    reference = Bench(store)
    reference.load()
    bench = Bench(tmp_path / "own", "--weights", mode)
    bench.load()
    assert torch.equal(bench.step(INPUTS), reference.step(INPUTS))
    assert not list((tmp_path / "own").glob("*.plan"))
    if mode == "embedded":
        bench.refit([], stack, NAMES, 1)
        reference.refit([], stack, NAMES, 1)
        assert torch.equal(bench.step(INPUTS, generation=2), reference.step(INPUTS, generation=2))
        return
    for full in (False, True):
        writes = NAMES if not full else [slot.name for slot in bench.host._engines["e"].weights.layout.slots]
        failure = refusal(lambda: bench.refit([], stack, writes, 1, full=full), "HOST_NOT_REFITTABLE")  # noqa: B023
        assert "not built refittable" in failure.message or "NEEDS_RECOMPILE" in failure.message
    refusal(lambda: bench.load("other", stack=stack), "HOST_NOT_REFITTABLE")
    assert torch.equal(bench.step(INPUTS), reference.step(INPUTS))


def test_sizes_whose_scratch_memory_does_not_fit_are_left_out_and_a_second_start_finds_that_engine(tmp_path):
    tmp_path.chmod(0o700)
    with simulation(TOTAL_BYTES=13 << 30, FAULTS=frozenset({"hungry-steps"})):
        bench = Bench(tmp_path)
        bench.load()
        assert bench.step(INPUTS).isfinite().all()
        failure = refusal(lambda: bench.step(demo_inputs(side=170)), "HOST_INPUT_INVALID")
        assert "batch 1-2, up to 1280 px" in failure.message
        again = Bench(tmp_path)
        again.load()
        assert again.built == 0
        assert "up to 1280 px" in refusal(lambda: again.step(demo_inputs(side=170)), "HOST_INPUT_INVALID").message


def test_a_device_too_small_for_the_smallest_sizes_is_told_what_is_needed_and_what_to_change():
    with simulation(TOTAL_BYTES=2 << 30, FAULTS=frozenset({"hungry-steps"})):
        failure = refusal(Bench(None).load, "HOST_OUT_OF_MEMORY")
    assert failure.evidence["bytes"] > failure.evidence["freeBytes"]
    assert all(word in failure.message for word in ("batch 1-2, up to 1280 px", "GiB", "--vram-mib", "torch host"))


def test_what_cannot_be_built_for_a_capability_by_name_is_built_for_the_device_at_hand():
    with simulation(FAULTS=frozenset({"refit-for-this-device-only"})):
        bench = Bench(None)
        bench.load()
        assert bench.step(INPUTS).isfinite().all()


def test_a_cap_below_the_weights_is_refused_before_anything_is_built(simulated):
    bench = Bench(None, "--vram-mib", "8")
    failure = refusal(bench.load, "HOST_OUT_OF_MEMORY")
    assert failure.evidence["bytes"] > failure.evidence["freeBytes"] == 8 << 20
    assert "--vram-mib" in failure.message and "torch host" in failure.message
    assert bench.built == 0


def test_the_cap_counts_the_librarys_copy_of_the_weights_when_the_base_is_placed(store, simulated, monkeypatch):
    seen = []
    monkeypatch.setattr(maker, "device_budget", lambda device, cap: seen.append(cap) or Budget(cap, 1 << 40))
    bench = Bench(store, "--vram-mib", "30")
    size = bench.load()["bytes"]
    assert len(seen) == 1 and 0 <= (30 << 20) - size - seen[0] < 1 << 17  # the gaps that alignment makes
    assert bench.host._engines["e"].weights.base.place == "pinned"
