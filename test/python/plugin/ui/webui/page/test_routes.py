"""The page's routes: what they answer, and what they refuse. No Gradio is needed, as with --nowebui."""

import base64

import pytest


@pytest.fixture(scope="module")
def ui(api):
    return api()


def basic(text):
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_facts_tell_connection_view_and_new_events_only(ui):
    first = ui.get("/refit-sidecar/facts")[1]
    assert first["connection"]["state"] == "connected" and first["view"]["state"] == "idle" and first["lastRun"] is None
    ui.tell(event={"type": "engine.freed", "engine": "engine-1"})
    ui.until(lambda: ui.get("/refit-sidecar/facts")[1]["told"] == first["told"] + 1)
    assert [event["event"]["type"] for event in ui.get(f"/refit-sidecar/facts?after={first['told']}")[1]["events"]] == ["engine.freed"]
    assert ui.get(f"/refit-sidecar/facts?after={first['told'] + 1}")[1]["events"] == []
    assert ui.get("/refit-sidecar/facts?after=-1")[0] == ui.get("/refit-sidecar/facts?after=x")[0] == 200


def test_the_view_is_what_the_accordion_shows(ui):
    ui.tell(view={"state": "refitting", "line": "Putting 2 LoRAs on the engine.", "last_refit_ms": 12.5})
    ui.until(lambda: ui.get("/refit-sidecar/facts")[1]["view"]["state"] == "refitting")
    assert ui.get("/refit-sidecar/facts")[1]["view"]["last_refit_ms"] == 12.5


def test_lists_of_the_sidecar_are_read(ui):
    assert ui.get("/refit-sidecar/read/engine.list")[1]["engines"][0]["id"] == "engine-1"
    names = [entry["name"] for entry in ui.get('/refit-sidecar/read/catalog.list?params={"limit":1000}')[1]["entries"]]
    assert {"ink.safetensors", "sub/neon.safetensors", "base.safetensors"} <= set(names)


@pytest.mark.parametrize("params", ["[]", "{", "3", "[" * 5000])
def test_params_that_are_no_object_are_refused(ui, params):
    assert ui.get(f"/refit-sidecar/read/engine.list?params={params}") == (
        400,
        {"code": "PAGE_PARAMS_INVALID", "message": "Expected `params` to be a JSON object. [PAGE_PARAMS_INVALID]"},
    )


@pytest.mark.parametrize("method", ["adapter.push", "folders.add", "engine.prepare", "engine.warm", "nothing"])
def test_calls_that_are_not_on_the_list_are_unknown(ui, method):
    assert ui.get(f"/refit-sidecar/read/{method}")[0] == 404
    if method != "engine.warm":
        assert ui.post(f"/refit-sidecar/change/{method}")[0] == 404


def test_changes_go_on_to_the_sidecar(ui):
    assert ui.post("/refit-sidecar/change/watch.pause", headers={"Origin": ui.url, "Sec-Fetch-Site": "same-origin"}) == (
        200,
        {"paused": True},
    )
    assert ui.get("/refit-sidecar/read/status")[1]["watch"]["paused"] is True
    assert ui.post("/refit-sidecar/change/watch.resume") == (200, {"paused": False})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_sites_change_nothing(ui, headers, status):
    for path in ("/refit-sidecar/change/watch.pause", "/refit-sidecar/warm"):
        assert ui.post(path, headers=headers)[0] == status
    assert ui.get("/refit-sidecar/read/status")[1]["watch"]["paused"] is False


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": "' + b"x" * (64 << 10) + b'"}', b"\xff\xfe"])
def test_bodies_that_are_no_small_object_are_refused(ui, body):
    assert ui.post("/refit-sidecar/change/watch.pause", body)[1]["code"] == "PAGE_BODY_INVALID"


def test_a_change_needs_a_post(ui):
    assert ui.get("/refit-sidecar/change/watch.pause")[0] == 405
    assert ui.get("/refit-sidecar/warm")[0] == 405


def test_warm_takes_the_selected_checkpoint_or_one_by_name(ui):
    assert ui.post("/refit-sidecar/warm", {"checkpoint": None}) == (200, {"job": "job-1", "checkpoint": "base.safetensors"})
    assert ui.post("/refit-sidecar/warm", {"checkpoint": "base.safetensors"})[0] == 200
    status, answer = ui.post("/refit-sidecar/warm", {"checkpoint": "../../etc/passwd"})
    assert (status, answer["code"]) == (503, "CATALOG_ENTRY_UNKNOWN")


def test_only_the_files_of_pages_are_served_with_their_types(ui):
    status, text = ui.get("/refit-sidecar/web/refit/webui.mjs")
    assert status == 200 and "refit.facts" in text
    for path in ("refit.js", "../install.py", "..%2finstall.py", "refit/../../install.py", "refit", "", "docs/RefitLoraStack.md", "%00"):
        assert ui.get(f"/refit-sidecar/web/{path}")[0] == 404, path


def test_no_answer_holds_a_token(ui):
    assert (
        "token"
        not in str(
            [ui.get("/refit-sidecar/facts"), ui.get("/refit-sidecar/read/status"), ui.get("/refit-sidecar/read/folders.list")]
        ).lower()
    )


def test_api_auth_is_needed_for_every_call_but_not_for_the_scripts_of_the_page(api):
    ui = api(api_auth="ann:secret, bob:other")
    assert ui.get("/refit-sidecar/web/refit/webui.mjs")[0] == 200
    for headers in (
        {},
        basic("ann:wrong"),
        basic("ann"),
        basic(""),
        {"Authorization": "Basic ?"},
        {"Authorization": "Bearer x"},
        basic("ann:secret,bob:other"),
    ):
        assert ui.get("/refit-sidecar/facts", headers)[1]["code"] == "PAGE_SIGN_IN"
        assert ui.get("/refit-sidecar/read/status", headers)[0] == 401
        assert ui.post("/refit-sidecar/change/watch.pause", headers=headers)[0] == 401
        assert ui.post("/refit-sidecar/warm", headers=headers)[0] == 401
        assert ui.get("/refit-sidecar/sign-in", headers)[0] == 401
    for pair in ("ann:secret", "bob:other"):
        assert ui.get("/refit-sidecar/read/status", basic(pair))[0] == 200


def test_a_lost_sidecar_is_said(api):
    ui = api()
    ui.tell(kill=True)
    ui.until(lambda: ui.get("/refit-sidecar/facts")[1]["connection"]["state"] != "connected")
    assert ui.get("/refit-sidecar/read/status")[0] == 503
