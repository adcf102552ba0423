"""The client against the real wire server (TypeScript, built) on a backend without engines."""

import os
import threading
import time

import pytest
from refit_sidecar_plugin.client import SidecarClient, SidecarError, SidecarInterrupted, SidecarRefused, SidecarUnavailable, Tensor, session
from refit_sidecar_plugin.service.spoken import spoken


def step(client, lease, data, name="sample", **options):
    reply = client.call("engine.step", {"lease": lease}, [Tensor(name, "u8", (len(data),), data)], **options)
    return bytes(reply.tensors["out_sample"].data)


def prepare(client, wanted, **options):
    return client.call("engine.prepare", wanted, **options).result["lease"]


def delayed(data, ms):
    return [Tensor("sample", "u8", (len(data),), data), Tensor("delay_ms", "u8", (2,), bytes([ms % 256, ms // 256]))]


def test_a_run_from_hello_to_release(client, wanted):
    session = client.session()
    assert session.hello["role"] == "control" and set(session.hello["capabilities"]) == {"segments", "events", "push", "memory"}
    assert session.uses_segments
    progress = []
    lease = prepare(client, wanted, progress=progress.append)
    assert progress[-1]["done"] == progress[-1]["total"] == 3
    client.call("conditioning.put", {}, [Tensor("key", "f16", (2, 3), bytes(12))])
    for size in (1, 64, 65, 70_000, 3 << 20):
        data = os.urandom(size)
        reply = client.call("engine.step", {"lease": lease, "use": {"context": "key"}}, [Tensor("sample", "u8", (size,), data)])
        assert bytes(reply.tensors["out_sample"].data) == data and reply.result["ms"] == {"queue": 0, "run": 0}
    client.call("engine.release", {"lease": lease})
    with pytest.raises(SidecarRefused) as caught:
        step(client, lease, b"x")
    assert caught.value.code == "WIRE_LEASE_UNKNOWN" and caught.value.remedy


def test_without_segments_everything_travels_in_frames(client, wanted):
    client.session()._segments = None
    lease = prepare(client, wanted)
    for size in (1, 64, 70_000, 3 << 20):
        data = os.urandom(size)
        assert step(client, lease, data) == data


def test_systems_without_positioned_calls_copy_the_same(client, wanted, monkeypatch):
    monkeypatch.delattr(os, "pwrite")
    monkeypatch.delattr(os, "preadv")
    lease = prepare(client, wanted)
    for size in (1, 64, 70_000, 3 << 20):
        data = os.urandom(size)
        assert step(client, lease, data) == data
    assert client.session().uses_segments


def test_a_full_memory_file_system_leaves_the_frame(client, wanted, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    lease = prepare(client, wanted)
    monkeypatch.setattr(os, "pwrite", full)
    data = os.urandom(70_000)
    assert step(client, lease, data) == data
    assert client.session()._segments.request_ranges._taken == []


def test_a_tensor_larger_than_the_segment_takes_the_frame(client, wanted):
    lease = prepare(client, wanted)
    client.session()._segments.request_ranges._size = 4096
    data = os.urandom(100_000)
    assert step(client, lease, data) == data


def test_a_reply_larger_than_its_range_takes_the_frame(client, wanted):
    lease = prepare(client, wanted)
    pending = client.start("engine.step", {"lease": lease}, [Tensor("sample", "u8", (5000,), bytes(5000))], reply_bytes=64)
    while not pending.wait(5):
        pass
    assert pending.reply().tensors["out_sample"].data.nbytes == 5000


def test_numpy_arrays_are_sent_as_they_are(client, wanted):
    numpy = pytest.importorskip("numpy")
    lease = prepare(client, wanted)
    values = numpy.arange(24, dtype=numpy.float32).reshape(2, 3, 4)
    reply = client.call("engine.step", {"lease": lease}, [Tensor("sample", "f32", (2, 3, 4), values)])
    out = reply.tensors["out_sample"]
    assert numpy.array_equal(numpy.frombuffer(out.data, numpy.float32).reshape(out.shape), values)


def test_an_interrupt_frees_the_caller_long_before_the_engine_is_done(client, wanted):
    lease = prepare(client, wanted)
    started = time.monotonic()
    asked = []

    def check():
        asked.append(time.monotonic())
        return len(asked) == 2

    with pytest.raises(SidecarInterrupted):
        client.call("engine.step", {"lease": lease}, delayed(b"late", 5000), check=check)
    # The step itself takes 5 s; the client looks every 30 ms and was asked to stop at the second look.
    assert time.monotonic() - started < 4
    assert step(client, lease, b"next") == b"next"


def test_a_cancelled_steps_range_is_not_given_to_the_next(client, wanted):
    lease = prepare(client, wanted)
    with pytest.raises(SidecarInterrupted):
        client.call("engine.step", {"lease": lease}, delayed(b"a" * 1000, 300), check=lambda: True)
    for number in range(20):
        data = bytes([number]) * 1000
        assert step(client, lease, data) == data
    session = client.session()
    while len(session._segments.reply_ranges._taken) > 0:
        client.call("ping")
    assert session._waiting == {}


def test_sixteen_threads_get_their_own_answers(client, wanted):
    lease = prepare(client, wanted)
    wrong = []

    def work(number):
        for turn in range(40):
            data = bytes([number, turn]) * (500 + 97 * turn)
            if step(client, lease, data) != data:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert client.session()._segments.request_ranges._taken == []


def test_a_restarted_sidecar_is_found_again_and_old_leases_are_gone(real, client, wanted):
    lease = prepare(client, wanted)
    real.stop()
    with pytest.raises(SidecarUnavailable) as caught:
        step(client, lease, b"x")
    assert caught.value.code in ("CLIENT_CONNECTION_LOST", "CLIENT_NOT_RUNNING")
    real.start()
    while True:
        try:
            client.session()
            break
        except SidecarUnavailable:
            time.sleep(0.05)
    with pytest.raises(SidecarRefused) as caught:
        step(client, lease, b"x")
    assert caught.value.code == "WIRE_LEASE_UNKNOWN"
    assert step(client, prepare(client, wanted), b"y") == b"y"


def test_a_killed_sidecar_ends_a_waiting_call_with_a_clear_error(real, client, wanted):
    lease = prepare(client, wanted)
    pending = client.start("engine.step", {"lease": lease}, delayed(b"x", 20_000))
    real.kill()
    while not pending.wait(1):
        pass
    with pytest.raises(SidecarUnavailable) as caught:
        pending.reply()
    assert caught.value.code == "CLIENT_CONNECTION_LOST"
    # Its file is still there and names a dead process: that is "not reachable", not a hang.
    with pytest.raises(SidecarUnavailable):
        client.call("ping")


def test_events_arrive_over_a_restart(real, client):
    heard = []
    came = threading.Semaphore(0)

    def listener(event):
        heard.append(event)
        came.release()
        raise ValueError("a listener's own mistake")

    client.subscribe(["refit"], listener)
    client.session()
    event = {"type": "refit.started", "engine": "e", "full": False, "writes": 1}
    client.call("ping")
    real.emit({"type": "live.deleted", "id": "a", "message": ""})
    real.emit(event)
    assert came.acquire(timeout=20)
    real.stop()
    real.start()
    while not client.connected:
        try:
            client.call("ping")
        except SidecarUnavailable:
            time.sleep(0.05)
    client.call("ping")
    real.emit({**event, "writes": 2})
    assert came.acquire(timeout=20)
    assert [told["event"]["writes"] for told in heard] == [1, 2]


def test_room_is_made_in_the_calling_thread(client, wanted):
    asked = []

    def make_room(wanted_bytes):
        asked.append((wanted_bytes, threading.current_thread()))
        return 1000

    prepare(client, {**wanted, "checkpoint": "room"}, make_room=make_room)
    prepare(client, {**wanted, "checkpoint": "room"})
    assert asked == [(1234, threading.current_thread())]


def test_errors_of_the_sidecar_come_with_remedy_and_without_paths(client, wanted):
    with pytest.raises(SidecarRefused) as caught:
        prepare(client, {**wanted, "checkpoint": "fail:HOST_LOST"})
    error = caught.value
    assert (error.code, error.reason, error.fault) == ("ENGINE_FAILED", "HOST_LOST", "host")
    assert error.remedy in str(error) and "secret models" not in str(error)
    with pytest.raises(SidecarRefused) as caught:
        client.call("engine.prepare", {})
    assert caught.value.code == "WIRE_PARAMS_INVALID" and caught.value.fault == "client"


def test_an_adapter_is_pushed_in_parts_and_known_the_second_time(client):
    tensors = [Tensor(f"lora.{number}", "f16", (10,), bytes([number]) * 20) for number in range(6)]
    assert client.call("adapter.push", {"push": "p", "last": False}, tensors[:3]).result == {"adapter": None}
    first = client.call("adapter.push", {"push": "p", "last": True}, tensors[3:]).result["adapter"]
    again = client.call("adapter.push", {"push": "q", "last": True}, tensors[::-1]).result["adapter"]
    assert not first["known"] and again == {**first, "known": True}


def test_a_session_leaves_no_file_behind(real, wanted):
    client = SidecarClient("test", "1", real.data_dir)
    session = client.session()
    descriptors = [os.readlink(f"/proc/self/fd/{session._segments._request._fd}")] if os.path.isdir("/proc/self/fd") else []
    client.close()
    other = SidecarClient("test", "1", real.data_dir)
    for path in descriptors:
        while os.path.exists(path):
            other.call("ping")
    other.close()


def test_a_sidecar_with_tls_is_reached_with_its_certificate_only(start_real, tmp_path, wanted):
    import shutil
    import ssl
    import subprocess

    from refit_sidecar_plugin.client import read_discovery

    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(["openssl", *make.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    sidecar = start_real(tlsCert=str(cert), tlsKey=str(key))
    address = read_discovery(sidecar.data_dir)
    assert address.ws_url.startswith("wss://")
    with SidecarClient("test", "1", address=address, ssl_context=ssl.create_default_context(cafile=str(cert))) as client:
        assert step(client, prepare(client, wanted), b"abc") == b"abc"
    with SidecarClient("test", "1", address=address) as stranger, pytest.raises(SidecarUnavailable) as caught:
        stranger.call("ping")
    assert caught.value.code == "CLIENT_CONNECT_FAILED"


def test_a_wrong_token_is_refused(real):
    from refit_sidecar_plugin.client import Address, read_discovery

    good = read_discovery(real.data_dir)
    client = SidecarClient("test", "1", address=Address(good.ws_url, "wrong"))
    with pytest.raises(SidecarError) as caught:
        client.call("ping")
    assert caught.value.code == "CLIENT_REFUSED"


def test_a_newer_plugin_is_told_to_update_the_sidecar_in_words_for_its_user(client, monkeypatch):
    monkeypatch.setattr(session, "PROTOCOL_VERSION", 7)
    with pytest.raises(SidecarError) as caught:
        client.call("status", {})
    assert caught.value.code == "WIRE_VERSION_UNSUPPORTED"
    for text in (caught.value.message, spoken(caught.value)):
        assert "speaks 7" in text and 'update the sidecar (it is the older side): "refit-sidecar stop"' in text
