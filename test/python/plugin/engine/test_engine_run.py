"""One run against the fake sidecar: what travels when, what is repeated, what interrupts."""

import threading
import time

import pytest
from fake_sidecar import FakeClient, FakeSidecar
from refit_sidecar_plugin.client import Loan, Pending, PlacedTensor, Reply, SidecarError, SidecarRefused, SidecarUnavailable, Tensor
from refit_sidecar_plugin.engine import EngineRun, Lent, StackEntry, Wanted

ONCE = frozenset({"encoder_hidden_states", "y"})


class Stopped(Exception):
    pass


def f32(name: str, *values: float) -> Tensor:
    import struct

    return Tensor(name, "f32", (len(values),), struct.pack(f"<{len(values)}f", *values))


def inputs(context: float = 1.0) -> dict[str, Tensor]:
    return {
        "sample": f32("sample", 1.0, 2.0),
        "timestep": f32("timestep", 5.0),
        "encoder_hidden_states": f32("encoder_hidden_states", context),
    }


@pytest.fixture
def sidecar(tmp_path):
    fake = FakeSidecar(lambda state, tensors: Tensor("out_sample", "f32", (1,), tensors["encoder_hidden_states"].data))
    (tmp_path / "base.safetensors").write_bytes(b"x")
    fake.do_folders_add({"path": str(tmp_path), "kind": "checkpoints"})
    return fake


def open_run(sidecar, check=lambda: None, **wanted) -> tuple[EngineRun, FakeClient]:
    client = FakeClient(sidecar)
    run = EngineRun(client, Wanted("checkpoint:base.safetensors", (), **wanted), check)
    run.prepare()
    return run, client


def test_the_whole_desired_state_travels_with_prepare(sidecar):
    client = FakeClient(sidecar)
    sidecar.pushed["s" * 64] = {}
    EngineRun(
        client, Wanted("checkpoint:base.safetensors", (StackEntry("s" * 64, -0.5, "t" * 64),), "torch", "fp16", True), lambda: None
    ).prepare()
    assert sidecar.named("engine.prepare") == [{
        "checkpoint": "checkpoint:base.safetensors", "stack": [{"adapter": "s" * 64, "strength": -0.5, "targets": "t" * 64}], "host": "torch", "precision": "fp16",
        "mode": "comfyui", "residuals": True,
    }]  # fmt: skip


def test_conditioning_travels_once_per_content(sidecar):
    run, _ = open_run(sidecar)
    for context in (1.0, 1.0, 2.0, 1.0, 2.0):
        assert bytes(run.step(inputs(context), ONCE).data) == inputs(context)["encoder_hidden_states"].data
    assert len(sidecar.named("conditioning.put")) == 2
    steps = [tensors for name, _, tensors in sidecar.calls if name == "engine.step"]
    assert all(set(tensors) == {"sample", "timestep"} for tensors in steps)
    run.close()
    deadline = time.monotonic() + 5
    while (sidecar.kept or sidecar.leases) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not sidecar.kept and not sidecar.leases


def test_a_lost_lease_and_lost_conditioning_are_renewed_once(sidecar):
    run, _ = open_run(sidecar)
    run.step(inputs(), ONCE)
    sidecar.leases.clear()
    run.step(inputs(), ONCE)
    sidecar.kept.clear()
    run.step(inputs(), ONCE)
    assert len(sidecar.named("engine.prepare")) == 2 and run.report.steps == 3


def test_any_other_error_reaches_the_caller(sidecar):
    run, client = open_run(sidecar)
    sidecar.faults.fail["engine.step"] = SidecarRefused("STEP_FAILED")
    with pytest.raises(SidecarRefused, match="STEP_FAILED"):
        run.step(inputs(), ONCE)
    client.kill()
    with pytest.raises(SidecarUnavailable):
        run.step(inputs(), ONCE)
    run.close()


def test_a_sidecar_that_dies_during_a_step_is_an_error_at_once(sidecar):
    run, client = open_run(sidecar)
    sidecar.faults.step_seconds = 60
    threading.Timer(0.1, client.kill).start()
    started = time.monotonic()
    with pytest.raises(SidecarUnavailable, match="CLIENT_CONNECTION_LOST"):
        run.step(inputs(), ONCE)
    assert time.monotonic() - started < 10


def test_an_interrupt_cancels_the_call_and_drops_its_answer(sidecar):
    stop = threading.Event()

    def check():
        if stop.is_set():
            raise Stopped

    run, _ = open_run(sidecar, check)
    sidecar.faults.step_seconds = 60
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Stopped):
        run.step(inputs(), ONCE)
    stop.clear()
    sidecar.faults.step_seconds = 0
    assert bytes(run.step(inputs(3.0), ONCE).data) == inputs(3.0)["encoder_hidden_states"].data


def test_an_answer_without_a_tensor_is_a_protocol_error(sidecar):
    from refit_sidecar_plugin.client import Reply

    run, _ = open_run(sidecar)
    sidecar.do_engine_step = lambda *_: Reply({"ms": {"queue": 0, "run": 0}}, {})
    with pytest.raises(SidecarError, match="0 tensors"):
        run.step(inputs(), ONCE)


def test_the_report_holds_times_and_keys_without_effect(sidecar):
    run, _ = open_run(sidecar)
    run.step(inputs(), ONCE)
    report = run.report
    assert (report.engine, report.host, report.precision, report.steps) == ("engine-1", "fake", "fp32", 1)
    assert report.step_ms > 0 and report.refit_ms == 0.5 and report.ignored == []


class Belled:
    """A link whose step is answered when the test says so."""

    def __init__(self):
        self.pending = Pending(1, None, lambda request: self.cancelled.append(request))
        self.cancelled = []

    def call(self, method, params=None, tensors=(), **_):
        port = {"name": "sample", "shape": [1]}
        return Reply(
            {
                "lease": "l",
                "engine": "e",
                "host": "h",
                "precision": "fp32",
                "inputs": [port],
                "ms": {"refit": 0},
                "refit": None,
                "adapters": [],
            },
            {},
        )

    def begin(self, method, params, tensors, **_):
        self.params = params
        return self.pending

    def finish(self, pending, check):
        while not pending.wait(1):
            check()
        return pending.reply()


def belled(rung=lambda: True, check=lambda: None):
    link = Belled()
    run = EngineRun(link, Wanted("c", ()), check)
    run.prepare()
    output = PlacedTensor("out", "f32", (1,), 7, 64)
    lent = Lent({"segment": 7, "offset": 64, "bytes": 64, "bell": 3}, Loan(), output, rung)
    return run, link, output, lent


def test_a_step_whose_bell_rings_is_over_and_its_answer_is_collected_later():
    run, link, output, lent = belled()
    assert run.step({"sample": PlacedTensor("sample", "f32", (1,), 7, 0)}, frozenset(), lent) is output
    assert link.params["reply"]["bell"] == 3
    link.pending.settle(Reply({"ms": {"queue": 0, "run": 9.0}}, {"out": output}))
    run.collect()
    assert (run.report.steps, run.report.engine_ms) == (1, 9.0)


def test_an_answer_that_names_another_output_than_was_used_is_refused_and_one_that_failed_is_not():
    run, link, output, lent = belled()
    run.step({"sample": PlacedTensor("sample", "f32", (1,), 7, 0)}, frozenset(), lent)
    link.pending.settle(Reply({"ms": {"queue": 0, "run": 9.0}}, {"out": PlacedTensor("out", "f16", (1,), 7, 64)}))
    with pytest.raises(SidecarError, match="CLIENT_PROTOCOL"):
        run.collect()
    run, link, output, lent = belled()
    run.step({"sample": PlacedTensor("sample", "f32", (1,), 7, 0)}, frozenset(), lent)
    link.pending.settle(SidecarUnavailable("CLIENT_CONNECTION_LOST"))
    run.collect()
    assert run.report.steps == 1


def test_a_bell_that_does_not_ring_leaves_the_answer_and_an_interrupt_cancels():
    run, link, output, lent = belled(lambda: False)
    link.pending.settle(Reply({"ms": {"queue": 0, "run": 1.0}}, {"out": output}))
    assert run.step({"sample": PlacedTensor("sample", "f32", (1,), 7, 0)}, frozenset(), lent) == output
    stops = []

    def check():
        if stops:
            raise Stopped

    run, link, output, lent = belled(lambda: stops.append(1) and False, check)
    run._last_s = 10.0
    with pytest.raises(Stopped):
        run.step({"sample": PlacedTensor("sample", "f32", (1,), 7, 0)}, frozenset(), lent)
    assert link.cancelled == [1]
