"""The plugin's connection, folders, catalog, pushes and the page's relay, against the fake sidecar."""

import threading

import pytest
from fake_sidecar import FakeClient, FakeSidecar
from refit_sidecar_plugin.client import SidecarError, SidecarRefused, SidecarUnavailable
from refit_sidecar_plugin.engine import RunReport
from refit_sidecar_plugin.launcher import CannotStart
from refit_sidecar_plugin.service import Catalog, Facts, Folder, LastRun, Pusher, Relay, RelayRefused, Service
from refit_sidecar_plugin.service import catalog as catalog_module
from refit_sidecar_plugin.service import service as service_module
from refit_sidecar_plugin.service.facts import KEPT_EVENTS
from refit_sidecar_plugin.service.spoken import spoken
from refit_sidecar_plugin.stack import ContentItem, Patch, Target, TensorRef


def nothing():
    pass


@pytest.fixture
def world(tmp_path):
    for name in ("loras", "checkpoints"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoints" / "base.safetensors").write_bytes(b"checkpoint")
    (tmp_path / "loras" / "sub").mkdir()
    (tmp_path / "loras" / "sub" / "a.safetensors").write_bytes(b"adapter")
    return tmp_path


def folders(world):
    return [
        Folder(str(world / "loras"), "adapters"),
        Folder(str(world / "gone"), "adapters"),
        Folder(str(world / "checkpoints"), "checkpoints"),
    ]


@pytest.fixture
def make(world):
    made = []

    def factory(client, start=nothing):
        service = Service(client, start, lambda: folders(world))
        made.append(service)
        service.run_in_background()
        return service

    yield factory
    for service in made:
        service.stop()


def test_service_pushes_the_folders_that_exist_and_reports_the_connection(make, world):
    client = FakeClient(FakeSidecar())
    service = make(client)
    service.ensure(nothing)
    assert set(service.catalog.folders) == {str(world / "loras"), str(world / "checkpoints")}
    assert service.facts.snapshot()["connection"]["state"] == "connected"


def test_service_starts_a_sidecar_when_none_runs_and_pushes_again_after_a_restart(make):
    client = FakeClient(FakeSidecar())
    client.kill()
    started = threading.Event()

    def start():
        client.restart()
        started.set()

    service = make(client, start)
    service.ensure(nothing)
    assert started.is_set()
    client.kill()
    pushes = len(client.sidecar.named("folders.add"))
    service.ensure(nothing)
    assert len(client.sidecar.named("folders.add")) > pushes


def test_ensure_tells_at_once_why_no_sidecar_can_be_started(make):
    client = FakeClient(FakeSidecar())
    client.kill()

    def start():
        raise CannotStart("Node is missing; install it")

    service = make(client, start)
    with pytest.raises(SidecarUnavailable, match="Node is missing; install it"):
        service.ensure(nothing)
    assert "Node is missing" in service.facts.snapshot()["connection"]["text"]


def test_ensure_waits_for_a_sidecar_that_ended_and_is_being_started_again(make):
    client = FakeClient(FakeSidecar())
    delayed: list[threading.Timer] = []

    def start():
        if not delayed:
            delayed.append(threading.Timer(0.5, client.restart))
            delayed[0].start()

    service = make(client, start)
    service.ensure(nothing)
    client.kill()
    service.ensure(nothing)
    assert delayed and service.facts.snapshot()["connection"]["state"] == "connected"


def test_after_one_wait_in_vain_the_next_runs_do_not_wait_as_long(make, monkeypatch):
    monkeypatch.setattr(service_module, "START_PATIENCE_S", 0.2)
    monkeypatch.setattr(service_module, "TRIED_PATIENCE_S", 0.0)
    client = FakeClient(FakeSidecar())
    service = make(client)
    service.ensure(nothing)
    client.kill()
    for _ in range(2):
        with pytest.raises(SidecarUnavailable) as raised:
            service.ensure(nothing)
        assert spoken(raised.value) == "the engine's helper program did not start in time"
    client.restart()
    monkeypatch.setattr(service_module, "START_PATIENCE_S", 20.0)
    monkeypatch.setattr(service_module, "TRIED_PATIENCE_S", 20.0)
    service.ensure(nothing)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SidecarUnavailable("CLIENT_CONNECTION_LOST"), "the connection to the engine's helper program was lost; it is being started again"),
        (
            SidecarUnavailable("CLIENT_NOT_RUNNING", "No sidecar is running: Node is missing; install it.", " "),
            "No sidecar is running: Node is missing; install it",
        ),
        (SidecarRefused("CATALOG_FAILED", "the header is damaged", "Prepare again."), "the header is damaged"),
        (ValueError("anything else"), "anything else"),
    ],
)
def test_reasons_are_for_people_who_draw_pictures(error, says):
    assert spoken(error) == says


def test_a_folder_that_two_uis_share_through_links_is_one_folder(world):
    (world / "linked").symlink_to(world / "loras")
    client = FakeClient(FakeSidecar())
    service = Service(client, nothing, lambda: [Folder(str(world / "loras"), "adapters"), Folder(str(world / "linked"), "adapters")])
    service.push_folders()
    assert len(set(service.catalog.folders.values())) == 1 and len(service.catalog.folders) == 2
    assert service.catalog.entry(str(world / "linked" / "sub" / "a.safetensors"), nothing)["name"] == "sub/a.safetensors"


def test_a_folder_that_was_made_later_is_told_about_when_a_file_of_it_is_used(world):
    client = FakeClient(FakeSidecar())
    service = Service(client, nothing, lambda: folders(world))
    service.push_folders()
    (world / "gone").mkdir()
    (world / "gone" / "new.safetensors").write_bytes(b"new")
    assert service.catalog.entry(str(world / "gone" / "new.safetensors"), nothing)["name"] == "new.safetensors"


def test_ensure_can_be_interrupted(make):
    client = FakeClient(FakeSidecar())
    client.kill()
    service = make(client)

    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        service.ensure(check)


def test_facts_tell_listeners_what_changed():
    facts, heard = Facts(), []
    facts.listen(lambda name, data: heard.append((name, data)))
    facts.connection("connected", "hello")
    facts.connection("connected", "hello")
    facts.ran(LastRun("local", "base", "because"))
    facts.happened({"event": {"type": "delta.ready"}})
    assert [name for name, _ in heard] == ["connection", "run", "event"]
    snapshot = facts.snapshot()
    assert snapshot["lastRun"]["reason"] == "because" and snapshot["lastRun"]["report"] == RunReport().__dict__
    assert snapshot["events"] == [{"event": {"type": "delta.ready"}}]


@pytest.fixture
def catalog(world):
    client = FakeClient(FakeSidecar())
    service = Service(client, nothing, lambda: folders(world))
    service.push_folders()
    return service.catalog, client


def test_facts_give_the_events_after_those_that_a_page_knows():
    facts = Facts()
    for number in range(KEPT_EVENTS + 50):
        facts.happened({"number": number})
    numbers = [event["number"] for event in facts.snapshot()["events"]]
    assert numbers == list(range(50, KEPT_EVENTS + 50))
    assert [event["number"] for event in facts.snapshot(KEPT_EVENTS + 48)["events"]] == [KEPT_EVENTS + 48, KEPT_EVENTS + 49]
    assert facts.snapshot(KEPT_EVENTS + 50)["events"] == facts.snapshot(10**9)["events"] == []
    assert len(facts.snapshot(20)["events"]) == KEPT_EVENTS
    assert facts.snapshot()["told"] == KEPT_EVENTS + 50


def test_catalog_finds_files_by_path_in_subfolders(catalog, world):
    assert catalog[0].entry(str(world / "loras" / "sub" / "a.safetensors"), nothing)["name"] == "sub/a.safetensors"


def test_catalog_waits_for_a_file_that_is_not_listed_yet(catalog, world, monkeypatch):
    monkeypatch.setattr(catalog_module, "PATIENCE_S", 5.0)
    target = world / "loras" / "late.safetensors"
    threading.Timer(0.2, lambda: target.write_bytes(b"late")).start()
    assert catalog[0].entry(str(target), nothing)["name"] == "late.safetensors"


def test_catalog_gives_up_with_what_to_do(catalog, world, monkeypatch):
    monkeypatch.setattr(catalog_module, "PATIENCE_S", 0.0)
    with pytest.raises(SidecarRefused, match="has not catalogued"):
        catalog[0].entry(str(world / "loras" / "none.safetensors"), nothing)


def test_catalog_passes_on_why_a_file_cannot_be_used(catalog, world):
    found, client = catalog
    entry = client.sidecar._entry
    client.sidecar._entry = lambda *given: {**entry(*given), "problem": {"code": "CATALOG_FAILED", "message": "the header is damaged"}}
    with pytest.raises(SidecarRefused, match="the header is damaged"):
        found.entry(str(world / "loras" / "sub" / "a.safetensors"), nothing)


def content(value: bytes, dtype: str = "F16") -> ContentItem:
    part = TensorRef(dtype, (len(value) // 2,), lambda: value.hex(), lambda: value)
    return ContentItem((Patch(Target("a.weight"), "diff", (("diff", part),)),), 1.0)


def test_pusher_sends_equal_content_once_per_connection():
    client = FakeClient(FakeSidecar())
    pusher = Pusher(client)
    first = pusher.push(content(b"abcd"), nothing)
    assert pusher.push(content(b"abcd"), nothing) == first and len(client.sidecar.named("adapter.push")) == 1
    assert pusher.push(content(b"abce"), nothing) != first
    pusher.forget()
    assert pusher.push(content(b"abcd"), nothing) == first and len(client.sidecar.named("adapter.push")) == 3


def test_pusher_cuts_large_adapters_into_several_calls(monkeypatch):
    monkeypatch.setattr("refit_sidecar_plugin.service.push.FRAME_BYTES", 8)
    client = FakeClient(FakeSidecar())
    parts = tuple(
        Patch(Target(f"{name}.weight"), "diff", (("diff", TensorRef("F16", (4,), lambda: "", lambda: b"12345678")),)) for name in "abc"
    )
    Pusher(client).push(ContentItem(parts, 1.0), nothing)
    calls = client.sidecar.named("adapter.push")
    assert [call["last"] for call in calls] == [False, False, True] and len({call["push"] for call in calls}) == 1


def test_pusher_refuses_dtypes_that_the_wire_lacks():
    with pytest.raises(SidecarError, match="F8_E4M3"):
        Pusher(FakeClient(FakeSidecar())).push(content(b"ab", "F8_E4M3"), nothing)


def test_relay_passes_only_calls_of_its_lists():
    client = FakeClient(FakeSidecar())
    relay = Relay(client)
    assert relay.read("engine.list", {})["engines"][0]["id"] == "engine-1"
    assert relay.change("engine.free", {"engine": None})["freed"] == ["engine-1"]
    for method in ("folders.add", "folders.remove", "engine.step", "engine.prepare", "adapter.push", "hello", "engine.free"):
        with pytest.raises(RelayRefused):
            relay.read(method, {})
    for method in ("folders.add", "folders.remove", "engine.step", "engine.prepare", "adapter.push", "hello", "status"):
        with pytest.raises(RelayRefused):
            relay.change(method, {})


def test_catalog_ignores_folders_on_another_drive(monkeypatch):
    monkeypatch.setattr(catalog_module.os.path, "splitdrive", lambda path: (path[:2], path[2:]))
    found = Catalog(FakeClient(FakeSidecar()))
    found.folders = {"D:/loras": "folder"}
    assert found._places("C:/loras/a.safetensors") == []
