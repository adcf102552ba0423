"""What the client makes of a sidecar that is broken, old, hostile or gone."""

import json
import logging
import os
import threading

import pytest
from refit_sidecar_plugin.client import Address, SidecarClient, SidecarError, SidecarInterrupted, SidecarRefused, SidecarUnavailable, Tensor
from refit_sidecar_plugin.client.frames import decode_frame
from refit_sidecar_plugin.service.spoken import spoken
from stub_sidecar import HELLO


def failing(client, method="ping", **options):
    with pytest.raises(SidecarError) as caught:
        client.call(method, **options)
    text = str(caught.value)
    assert "secret-token" not in text and "127.0.0.1" not in text and caught.value.remedy in text
    return caught.value


def test_no_server_is_one_clear_error_and_is_not_asked_again_at_once(stub):
    client = SidecarClient("test", "1", address=Address("ws://127.0.0.1:1/ws", "secret-token"))
    first = failing(client)
    assert isinstance(first, SidecarUnavailable) and first.code == "CLIENT_CONNECT_FAILED"
    second = failing(client)
    assert second.code == first.code and second is not first


def test_nonsense_for_an_address_is_the_same_error():
    for url in ("http://127.0.0.1:1/ws", "ws://", "nonsense"):
        assert failing(SidecarClient("test", "1", address=Address(url, "secret-token"))).code == "CLIENT_CONNECT_FAILED"


def test_a_refused_upgrade_says_why(stub):
    from http import HTTPStatus

    from websockets.sync.server import ServerConnection

    if not hasattr(ServerConnection, "respond"):
        pytest.skip("the stub's library is too old to refuse an upgrade")
    client = stub(lambda session: None, process_request=lambda connection, request: connection.respond(HTTPStatus.UNAUTHORIZED, "no"))
    error = failing(client)
    assert error.code == "CLIENT_REFUSED" and "token" in error.message


def test_the_token_travels_in_one_header_and_hello_says_who_calls(stub):
    seen = {}

    def script(session):
        seen["authorization"] = session.headers.get("Authorization")
        seen["hello"] = session.greet()
        session.answer(session.receive(), {})
        session.receive()

    stub(script).call("ping")
    assert seen["authorization"] == "Bearer secret-token"
    assert seen["hello"]["params"]["client"] == {"name": "test", "version": "1"}
    assert seen["hello"]["params"]["protocolVersions"] == [1]


def test_an_older_plugin_is_told_to_update_in_words_for_its_user(stub):
    """The text is that of a sidecar which speaks later versions (test/sidecar/wire/session.test.ts)."""
    text = "expected protocol version 2 or 3, which sidecar 0.9.0 speaks; comfyui 0.1.0 speaks 1: update comfyui (it is the older side)"

    def script(session):
        asked = session.receive()
        session.send(
            {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": 4103, "message": text, "data": {"code": "WIRE_VERSION_UNSUPPORTED"}}}
        )
        session.receive()

    error = failing(stub(script))
    assert error.code == "WIRE_VERSION_UNSUPPORTED" and spoken(error) == text


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        b"RFT1",
        b"",
        "[" * 100_000,
        '{"jsonrpc":"2.0","id":2,"result":7}',
        '{"jsonrpc":"2.0","id":2}',
        '{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}',
    ],  # fmt: skip
    ids=lambda message: repr(message)[:40],
)
def test_nonsense_from_the_sidecar_ends_the_call_with_a_clear_error(stub, message):
    def script(session):
        session.greet()
        session.receive()
        session.send(message)
        session.receive()

    assert failing(stub(script)).code == "CLIENT_PROTOCOL"


def test_a_connection_that_ends_before_the_answer_fails_every_waiting_call(stub):
    def script(session):
        session.greet()
        for _ in range(3):
            session.receive()

    client = stub(script)
    client.session()
    errors = []

    def ask():
        try:
            client.call("ping")
        except SidecarUnavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [error.code for error in errors] == ["CLIENT_CONNECTION_LOST"] * 3
    assert len({id(error) for error in errors}) == 3


def test_a_hello_that_is_refused_is_the_sidecars_own_error(stub):
    def script(session):
        call = session.receive()
        data = {"code": "WIRE_VERSION_UNSUPPORTED", "fault": "client", "remedy": "Update."}
        session.send({"jsonrpc": "2.0", "id": call["id"], "error": {"code": 4103, "message": "expected version 2", "data": data}})

    error = failing(stub(script))
    assert isinstance(error, SidecarRefused) and (error.code, error.fault, error.remedy) == (
        "WIRE_VERSION_UNSUPPORTED",
        "client",
        "Update.",
    )


@pytest.mark.parametrize("error", [None, 7, {}, {"code": 1}, {"code": 1, "message": 7, "data": []}, {"message": "x", "data": {"code": 9}}])
def test_an_error_without_its_fields_is_still_an_error(stub, error):
    def script(session):
        session.greet()
        call = session.receive()
        session.send({"jsonrpc": "2.0", "id": call["id"], "error": error})
        session.receive()

    assert failing(stub(script)).code == "WIRE_INTERNAL"


def test_an_unknown_code_of_a_newer_sidecar_keeps_its_text(stub):
    def script(session):
        session.greet()
        call = session.receive()
        data = {"code": "MOON_FULL", "fault": "host", "remedy": "Wait."}
        session.send({"jsonrpc": "2.0", "id": call["id"], "error": {"code": 1, "message": "the moon is full", "data": data}})
        session.receive()

    error = failing(stub(script))
    assert (error.code, error.message, error.remedy, error.fault) == ("MOON_FULL", "the moon is full", "Wait.", "host")


def test_answers_come_to_their_calls_in_any_order_and_strangers_are_ignored(stub):
    def script(session):
        session.greet()
        calls = [session.receive() for _ in range(3)]
        session.send({"jsonrpc": "2.0", "id": 999, "result": {}})
        session.send({"jsonrpc": "2.0", "method": "from.the.future", "params": {}})
        session.send({"jsonrpc": "2.0", "method": "progress", "params": {"request": 999, "stage": "x"}})
        for call in reversed(calls):
            session.answer(call, {"echo": call["params"]["n"]})
        session.receive()

    client = stub(script)
    pending = [client.start("ping", {"n": number}) for number in range(3)]
    for number, call in enumerate(pending):
        while not call.wait(5):
            pass
        assert call.reply().result == {"echo": number}


def test_a_fragmented_reply_is_put_together(stub):
    def script(session):
        session.greet()
        call = session.receive()
        text = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {"word": "é" * 1000}}, ensure_ascii=False)
        session.connection.send(iter([text[:10], text[10:500], text[500:]]))
        session.receive()

    assert stub(script).call("ping").result == {"word": "é" * 1000}


def test_an_interrupt_returns_at_once_tells_the_sidecar_and_drops_the_late_answer(stub):
    told = threading.Event()
    let_go = threading.Event()

    def script(session):
        session.greet()
        slow = session.receive()
        cancel = session.receive()
        assert cancel["method"] == "cancel" and cancel["params"] == {"request": slow["id"]}
        told.set()
        session.answer(cancel, {"cancelled": True})
        session.answer(slow, {"late": True})
        session.answer(session.receive(), {"late": False})
        let_go.wait(20)

    client = stub(script)
    with pytest.raises(SidecarInterrupted) as caught:
        client.call("engine.prepare", check=lambda: True)
    assert caught.value.code == "CLIENT_INTERRUPTED"
    assert told.wait(20)
    assert client.call("ping").result == {"late": False}
    let_go.set()


def test_an_interrupt_by_exception_is_passed_on_as_it_is(stub):
    class UiInterrupt(BaseException):
        pass

    def interrupt():
        raise UiInterrupt

    def script(session):
        session.greet()
        session.receive()
        session.receive()

    with pytest.raises(UiInterrupt):
        stub(script).call("engine.prepare", check=interrupt)


def test_a_call_can_have_a_time_limit(stub):
    def script(session):
        session.greet()
        session.receive()
        session.receive()

    assert failing(stub(script), timeout_s=0.05).code == "CLIENT_TIMEOUT"


def test_a_reply_into_a_segment_that_was_never_agreed_is_refused(stub):
    def script(session):
        session.greet()
        call = session.receive()
        session.answer(call, {"tensors": [{"name": "a", "dtype": "u8", "shape": [4], "offset": 0, "bytes": 4, "segment": 1}]})
        session.receive()

    assert failing(stub(script)).code == "CLIENT_PROTOCOL"


def offer_segments(session, folder, size=4096, proof_ok=True):
    """Segments as the sidecar makes them; returns their paths."""
    paths = [folder / "request", folder / "reply"]
    for path in paths:
        path.write_bytes(os.urandom(32) + bytes(size - 32))
    segments = {name: {"index": index, "path": str(paths[index]), "bytes": size} for index, name in enumerate(("request", "reply"))}
    session.greet(segments=segments)
    confirm = session.receive()
    assert confirm["method"] == "segments.confirm"
    session.answer(confirm, {"enabled": proof_ok})
    return paths


def test_a_reply_outside_the_segment_or_its_file_is_refused(stub, tmp_path):
    rows = [
        {"name": "a", "dtype": "u8", "shape": [64], "offset": 4096, "bytes": 64, "segment": 1},
        {"name": "a", "dtype": "u8", "shape": [4], "offset": 0, "bytes": 4, "segment": 0},
    ]
    for number, row in enumerate(rows):
        folder = tmp_path / str(number)
        folder.mkdir()

        def script(session, folder=folder, row=row):
            offer_segments(session, folder)
            session.answer(session.receive(), {"tensors": [row]})
            session.receive()

        assert failing(stub(script)).code == "CLIENT_PROTOCOL"


def test_a_segment_that_the_sidecar_cut_short_is_an_error_not_a_crash(stub, tmp_path):
    def script(session):
        _, reply = offer_segments(session, tmp_path)
        os.truncate(reply, 100)
        session.answer(
            session.receive(), {"tensors": [{"name": "a", "dtype": "u8", "shape": [64], "offset": 64, "bytes": 64, "segment": 1}]}
        )
        session.receive()

    assert failing(stub(script)).code == "CLIENT_PROTOCOL"


@pytest.mark.parametrize("why", ["missing", "unproved"])
def test_segments_that_are_not_shared_leave_the_frame(stub, tmp_path, why):
    got = {}

    def script(session):
        if why == "missing":
            gone = {
                name: {"index": index, "path": str(tmp_path / "gone"), "bytes": 4096} for index, name in enumerate(("request", "reply"))
            }
            session.greet(segments=gone)
        else:
            offer_segments(session, tmp_path, proof_ok=False)
        got["frame"] = session.receive()
        got["next"] = session.receive()

    client = stub(script)
    assert not client.session().uses_segments
    pending = client.start("engine.step", {"lease": "l"}, [Tensor("sample", "u8", (3,), b"abc")])
    pending.cancel()
    while "next" not in got:
        threading.Event().wait(0.01)
    assert isinstance(got["frame"], bytes) and got["frame"].startswith(b"RFT1")


def test_segments_are_lent_until_the_answer_and_full_ones_leave_the_frame(stub, tmp_path):
    seen = []

    def script(session):
        offer_segments(session, tmp_path, size=4096)
        while True:
            seen.append(session.receive())
            if isinstance(seen[-1], dict) and seen[-1]["method"] == "ping":
                for call in seen:
                    if isinstance(call, dict):
                        session.answer(call, {})

    client = stub(script)
    tensor = Tensor("sample", "u8", (2000,), bytes(2000))
    first = client.session().start("engine.step", {"lease": "l"}, [tensor], reply_bytes=64)
    second = client.session().start("engine.step", {"lease": "l"}, [tensor], reply_bytes=64)
    first.cancel()
    client.session().start("engine.step", {"lease": "l"}, [tensor], reply_bytes=64)
    client.call("ping")
    in_segment = [call["params"]["tensors"][0]["offset"] for call in seen if isinstance(call, dict) and call["method"] == "engine.step"]
    frames = [call for call in seen if isinstance(call, bytes)]
    # A cancelled call still owns its range: the third call had to travel in a frame.
    assert in_segment == [0, 2048] and len(frames) == 1
    assert second.wait(20)
    client.start("engine.step", {"lease": "l"}, [tensor], reply_bytes=64)
    client.call("ping")
    assert [call["params"]["tensors"][0]["offset"] for call in seen if isinstance(call, dict) and call["method"] == "engine.step"] == [
        0,
        2048,
        0,
    ]


def test_frames_carry_tensors_and_cancelled_ones_are_not_read(stub):
    def script(session):
        session.greet()
        message, tensors = decode_frame_of_call(session.receive())
        assert message["params"]["lease"] == "l" and tensors == {"sample": b"abc"}
        session.receive()

    def decode_frame_of_call(frame):
        # The client's decoder reads replies: a call's descriptors lie in params.
        import struct

        size = struct.unpack_from("<I", frame, 8)[0]
        message = json.loads(frame[64 : 64 + size])
        start = 64 + -(-size // 64) * 64
        return message, {
            row["name"]: frame[start + row["offset"] : start + row["offset"] + row["bytes"]] for row in message["params"]["tensors"]
        }

    client = stub(script)
    client.start("engine.step", {"lease": "l"}, [Tensor("sample", "u8", (3,), b"abc")]).cancel()
    with pytest.raises(SidecarError):
        decode_frame(b"nothing")


def test_the_hosts_logging_is_left_alone_and_never_hears_the_token(stub, caplog):
    before = (list(logging.root.handlers), logging.root.level, set(logging.root.manager.loggerDict))

    def script(session):
        session.greet()
        session.answer(session.receive(), {})
        session.receive()

    with caplog.at_level(logging.DEBUG):
        stub(script).call("ping")
    assert "secret-token" not in caplog.text
    ours = {name for name in set(logging.root.manager.loggerDict) - before[2] if not name.startswith("websockets")}
    assert (list(logging.root.handlers), logging.root.level, ours) == (before[0], before[1], set())


def test_close_ends_threads_and_calls(stub, no_thread_left):
    def script(session):
        session.greet()
        session.receive()
        session.receive()

    client = stub(script)
    client.subscribe(["refit"], lambda event: None)
    pending = client.start("ping", {})
    client.close()
    client.close()
    assert pending.wait(5)
    with pytest.raises(SidecarUnavailable):
        pending.reply()
    assert failing(client).code == "CLIENT_CLOSED"


def test_a_library_that_is_missing_is_one_clear_error(monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "refit_sidecar_plugin.client.session", raising=False)
    monkeypatch.setitem(sys.modules, "refit_sidecar_plugin.client.transport", None)
    client = SidecarClient("test", "1", address=Address("ws://127.0.0.1:1/ws", "secret-token"))
    assert failing(client).code == "CLIENT_LIBRARY_MISSING"


def test_the_client_imports_nothing_heavy():
    import subprocess
    import sys
    from pathlib import Path

    plugin = Path(__file__).resolve().parents[4] / "plugin"
    code = "import sys, refit_sidecar_plugin.client; print(sorted({'torch', 'numpy', 'asyncio', 'websockets', 'comfy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=plugin, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hello_of_the_stub_is_a_valid_hello():
    from refit_sidecar_plugin.messages import HelloResult

    assert HelloResult.__required_keys__ == HELLO.keys()
