"""Tensors of steps in memory that the UI's process and the engine host share: real plugin, sidecar and torch host on the processor, whose memory is shared as a sealed file.

A GPU's memory takes the same way through the same code; only the two classes that open it differ (`CudaIpc`), and those need a card.
"""

import base64
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from refit_sidecar_plugin.checked.cuda_driver import DriverError
from refit_sidecar_plugin.client import PlacedTensor, SidecarClient, SidecarError, Tensor
from refit_sidecar_plugin.engine import EngineRun, Wanted
from refit_sidecar_plugin.engine import run as engine_run
from refit_sidecar_plugin.ui.denoising import Answerer, Call, device_memory, on_device
from refit_sidecar_plugin.ui.denoising.device_memory import CannotOpen, Memfd, opener_of

ROOT = Path(__file__).resolve().parents[5]
SIDE = 16
# Channels and parts of the demo model's skip connections.
SHAPES = [(32, 1)] * 3 + [(32, 2)] + [(64, 2)] * 2 + [(64, 4)] * 3 + [(64, 8)] * 3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory of another process is opened on Linux alone")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    if not (ROOT / "sidecar/dist/src/wire/index.js").exists():
        pytest.skip("the sidecar is not built (npm run build)")
    if importlib.util.find_spec("diffusers") is None:
        pytest.skip("this Python lacks the torch host's packages")
    folder, home = tmp_path_factory.mktemp("checkpoints"), tmp_path_factory.mktemp("data")
    home.chmod(0o700)
    shutil.copy(ROOT / "sidecar/demo/demo-unet.safetensors", folder / "demo.safetensors")
    command = [shutil.which("node") or "node", str(ROOT / "sidecar/bin/refit-sidecar.mjs"), "serve", "--json", "--stop-with-stdin"]
    command += ["--data-dir", str(home), "--checkpoints", str(folder), "--host", "torch", "--python", sys.executable]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert json.loads(process.stdout.readline())["ok"]
    yield home
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


@pytest.fixture
def client(data):
    with SidecarClient("on-device", "1", data) as one:
        yield one


def checkpoint(client):
    while not (
        found := [
            one for one in client.call("catalog.list", {"kind": "checkpoint"}).result["entries"] if one["problem"] is None and one["sha256"]
        ]
    ):
        time.sleep(0.05)
    return found[0]["id"]


def opened(client, check=lambda: None):
    run = EngineRun(client, Wanted(checkpoint(client), (), precision="fp32", residuals=True), check)
    run.prepare()
    return run


def call(seed, side=SIDE, residuals=True):
    generator = torch.Generator().manual_seed(seed)

    def made(*shape):
        return torch.randn(*shape, generator=generator)

    more = (*(made(2, channels, side // part, side // part) for channels, part in SHAPES), made(2, 64, side // 8, side // 8))
    # A view that is not contiguous, as UIs bring them.
    tensors = {
        "sample": made(2, side, side, 4).permute(0, 3, 1, 2),
        "timestep": torch.full((2,), 500.0),
        "encoder_hidden_states": torch.ones(2, 4, 768),
    }
    return Call(tensors, frozenset({"encoder_hidden_states"}), more if residuals else (), tensors["sample"])


@pytest.fixture(scope="module")
def expected(data):
    """What the engine answers to tensors that go the other ways."""
    with SidecarClient("other-ways", "1", data) as one:
        run = opened(one)
        answer = Answerer(run)
        answer._on_device._off = True
        out = {(seed, residuals): answer(call(seed, residuals=residuals)) for seed in (1, 2) for residuals in (True, False)}
        assert run.report.on_device == 0 and run.report.host == "torch"
        run.close()
    return out


def segments_of(client):
    return client.call("status").result["deviceSegments"]


def until(reached):
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def host_of(client):
    return next(host["pid"] for host in client.call("status").result["hosts"] if host["kind"] == "torch")


def test_every_step_is_served_from_shared_memory_and_equals_the_other_ways_bit_for_bit(client, expected):
    run = opened(client)
    answer = Answerer(run)
    for seed, residuals in ((1, True), (2, True), (1, False), (2, False), (1, True)):
        assert torch.equal(answer(call(seed, residuals=residuals)), expected[seed, residuals])
    assert run.report.on_device == run.report.steps == 5
    assert run.report.not_on_device == ""
    first = on_device._slots[client].opened.ranges.index
    run.close()
    # The next run of this connection finds it open.
    run = opened(client)
    assert torch.equal(Answerer(run)(call(2)), expected[2, True])
    assert on_device._slots[client].opened.ranges.index == first and run.report.on_device == 1
    assert segments_of(client)["count"] == 1
    run.close()


def test_an_output_is_used_when_its_bell_rings_before_the_answer_has_come(client, expected, monkeypatch):
    monkeypatch.setattr(engine_run, "LOOKS_LONGEST_S", 60.0)
    run = opened(client)
    answer = Answerer(run)
    answer(call(1))
    session = client.session()
    received, held = session._transport._on_message, []

    def hold(message):
        held.append(threading.Event())
        assert held[-1].wait(60)
        received(message)

    session._transport._on_message = hold
    try:
        for seed in (2, 1):
            assert torch.equal(answer(call(seed)), expected[seed, True])
            late = run._late
            assert late is not None and not late.settled
            # The next step first waits for the answer, as its room is still lent.
            until(lambda: held)
            held.pop().set()
    finally:
        session._transport._on_message = received
    before = run.report.engine_ms
    assert before > 0 and run.report.steps == run.report.on_device == 3 and run._late is None
    # Another size has no equal step before it, and no bell.
    answer(call(1, residuals=False))
    assert run._late is None
    run.close()


def test_the_answer_is_a_copy_that_later_steps_leave_alone(client, expected):
    run = opened(client)
    answer = Answerer(run)
    kept = answer(call(1))
    answer(call(2))
    assert torch.equal(kept, expected[1, True])
    run.close()


def test_a_larger_step_opens_a_larger_one_and_what_is_large_goes_with_its_run(client, monkeypatch):
    monkeypatch.setattr(on_device, "KEPT_BYTES", 3 << 20)
    run = opened(client)
    answer = Answerer(run)
    answer(call(1))
    small = on_device._slots[client].opened.ranges.size
    answer(call(1, side=48))
    assert on_device._slots[client].opened.ranges.size > max(small, 3 << 20)
    until(lambda: segments_of(client)["count"] == 1)
    assert run.report.on_device == 2
    run.close()
    until(lambda: segments_of(client)["count"] == 0)


class Lying(Memfd):
    """Opens other memory than the host's."""

    def open(self, handle, nbytes):
        return torch.zeros(nbytes, dtype=torch.uint8)


class Elsewhere(Memfd):
    def __init__(self):
        super().__init__()
        self.device = "another computer"


class Closed(Memfd):
    def open(self, handle, nbytes):
        return super().open(b"1:0", nbytes)


class Garbled(Memfd):
    def open(self, handle, nbytes):
        return super().open(b"../../etc", nbytes)


def none(_):
    raise CannotOpen("memory of a device of the kind meta cannot be opened from another process")


def test_a_gpu_without_a_driver_cannot_be_opened(monkeypatch):
    def missing():
        raise DriverError("the library of CUDA's driver is not found")

    monkeypatch.setattr(device_memory, "Driver", missing)
    with pytest.raises(CannotOpen, match="driver is not found"):
        device_memory.CudaIpc(torch.device("cuda", 0))


@pytest.mark.parametrize(
    ("opener", "reason"),
    [
        (lambda _: Lying(), "do not see the same memory"),
        (lambda _: Elsewhere(), "another device than the engine"),
        (lambda _: Closed(), "container"),
        (lambda _: Garbled(), "handle of another kind"),
        (none, "kind meta"),
    ],
)
def test_what_cannot_be_opened_is_told_and_the_run_goes_another_way(client, expected, monkeypatch, opener, reason, caplog):
    monkeypatch.setattr(on_device, "opener_of", opener)
    on_device._told.clear()
    if reason == "container":
        monkeypatch.setattr("os.readlink", lambda path: "socket:[1]")
    with caplog.at_level("INFO", logger="refit_sidecar"):
        run = opened(client)
        answer = Answerer(run)
        for seed in (1, 2):
            assert torch.equal(answer(call(seed)), expected[seed, True])
    assert run.report.on_device == 0 and reason in run.report.not_on_device
    assert sum(reason in line for line in caplog.messages) == 1
    run.close()
    until(lambda: segments_of(client)["count"] == 0)


@contextlib.contextmanager
def when_a_step_is_sent(client, action):
    session = client.session()
    sending = session.start

    def start(method, *args, **named):
        pending = sending(method, *args, **named)
        if method == "engine.step":
            session.start = sending
            action()
        return pending

    session.start = start
    try:
        yield
    finally:
        session.start = sending


def test_a_host_killed_in_a_step_loses_nothing_and_the_next_steps_use_its_successors_memory(client, expected, monkeypatch):
    # Its bell may ring first; what the host before it answered lies in another segment.
    monkeypatch.setattr(engine_run, "LOOKS_LONGEST_S", 60.0)
    run = opened(client)
    answer = Answerer(run)
    answer(call(1))
    first, before = host_of(client), on_device._slots[client].opened.ranges.index
    # It has the step and cannot answer it.
    os.kill(first, signal.SIGSTOP)
    with when_a_step_is_sent(client, lambda: os.kill(first, signal.SIGKILL)):
        assert torch.equal(answer(call(2)), expected[2, True])
    assert host_of(client) != first
    assert torch.equal(answer(call(1)), expected[1, True])
    assert torch.equal(answer(call(2)), expected[2, True])
    assert on_device._slots[client].opened.ranges.index != before
    # The step that was lost went another way.
    assert run.report.steps == 4 and run.report.on_device == 3
    run.close()


def test_an_interrupted_step_keeps_its_room_until_it_is_answered(client, expected):
    interrupts = []

    def check():
        if interrupts:
            raise interrupts.pop()

    run = opened(client, check)
    answer = Answerer(run)
    answer(call(1))
    ranges, host = on_device._slots[client].opened.ranges._ranges, host_of(client)

    def lent():
        return [taken for taken in ranges._taken if taken[0]]

    os.kill(host, signal.SIGSTOP)
    try:
        with when_a_step_is_sent(client, lambda: interrupts.append(KeyboardInterrupt())), pytest.raises(KeyboardInterrupt):
            answer(call(2))
        assert lent()
    finally:
        os.kill(host, signal.SIGCONT)
    # Meanwhile there is no room for another one of this size, which goes another way.
    assert torch.equal(answer(call(1)), expected[1, True])
    until(lambda: not lent())
    assert torch.equal(answer(call(2)), expected[2, True])
    run.close()


DIES = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from refit_sidecar_plugin.client import SidecarClient
from refit_sidecar_plugin.ui.denoising import Answerer
from test_on_device import call, opened
run = opened(SidecarClient("dies", "1", Path({data!r})))
answer = Answerer(run)
answer(call(1))
assert run.report.on_device == 1
print("ready", flush=True)
while True:
    answer(call(2))
"""


def test_a_client_killed_in_a_step_takes_its_memory_along_and_harms_nobody(client, data, expected):
    run = opened(client)
    answer = Answerer(run)
    answer(call(1))
    code = DIES.format(path=[str(Path(__file__).parent), str(ROOT / "plugin")], data=str(data))
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "ready\n"
    assert segments_of(client)["count"] == 2
    other.kill()
    other.wait()
    other.stdout.close()
    until(lambda: segments_of(client)["count"] == 1)
    assert torch.equal(answer(call(2)), expected[2, True]) and run.report.on_device == run.report.steps
    run.close()


def test_a_session_reaches_no_memory_of_another(client, data, expected):
    run = opened(client)
    answer = Answerer(run)
    answer(call(1))
    index = on_device._slots[client].opened.ranges.index
    with SidecarClient("thief", "1", data) as thief:
        lease = opened(thief)._lease
        stolen = [PlacedTensor("sample", "f32", (2, 4, SIDE, SIDE), index, 64)]
        rest = [Tensor("timestep", "f32", (2,), bytes(8)), Tensor("encoder_hidden_states", "f32", (2, 4, 768), bytes(4 * 2 * 4 * 768))]
        with pytest.raises(SidecarError) as failure:
            thief.call("engine.step", {"lease": lease}, [*stolen, *rest])
        assert failure.value.code == "WIRE_SEGMENT_STALE"
    assert torch.equal(answer(call(2)), expected[2, True])
    run.close()


def test_the_host_s_file_cannot_be_cut_by_whoever_has_it_open(client):
    run = opened(client)
    Answerer(run)(call(1))
    row, reason = run.open_segment("memfd", opener_of(torch.device("cpu")).device, 1 << 20)
    assert reason == "" and row is not None
    process, _, number = base64.b64decode(row["handle"]).decode().partition(":")
    with pytest.raises(PermissionError):
        os.truncate(f"/proc/{process}/fd/{number}", 0)
    run.close()
