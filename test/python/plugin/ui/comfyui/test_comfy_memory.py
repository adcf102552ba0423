"""Little memory: each side makes room for the other, and one error says when neither path fits."""

import sys
import types

import comfy_fakes
import pytest

pytest.importorskip("torch")
comfy_fakes.install()

from fake_sidecar import FakeClient, FakeSidecar  # noqa: E402
from refit_sidecar_plugin.ui.comfyui import fallback, memory  # noqa: E402
from refit_sidecar_plugin.ui.comfyui.source import Source  # noqa: E402

management = sys.modules["comfy.model_management"]


@pytest.fixture
def device(monkeypatch):
    """A device with 1000 bytes, of which ComfyUI's models hold 700."""
    state = {"free": 300}

    def free_memory(wanted, _device):
        state["free"] = max(state["free"], min(1000, wanted))

    monkeypatch.setattr(management, "get_torch_device", lambda: "device")
    monkeypatch.setattr(management, "get_free_memory", lambda _device: state["free"])
    monkeypatch.setattr(management, "free_memory", free_memory)
    monkeypatch.setattr(management, "soft_empty_cache", lambda: None)
    return state


def test_make_room_tells_what_it_freed(device):
    assert memory.make_room(800) == 500 and memory.make_room(100) == 0 and memory.make_room(5000) == 200


def test_unloading_comfyuis_models_frees_the_engines_too_and_is_hooked_once(monkeypatch):
    calls = []
    monkeypatch.setattr(management, "unload_all_models", lambda: calls.append("comfyui"))
    client = FakeClient(FakeSidecar())
    memory.follow_unload(client)
    memory.follow_unload(client)
    pending = []
    start = client.start
    monkeypatch.setattr(client, "start", lambda *given: pending.append(start(*given)))
    management.unload_all_models()
    while not pending[0].wait(1):
        pass
    assert calls == ["comfyui"] and client.sidecar.named("engine.free") == [{"engine": None}]
    client.kill()
    management.unload_all_models()
    assert calls == ["comfyui", "comfyui"]


def test_when_the_checkpoint_does_not_fit_either_one_error_names_both_reasons(monkeypatch):
    source = Source("/models/base.safetensors", "checkpoints", "base.safetensors")

    def no_room(*_given, **_named):
        raise MemoryError

    monkeypatch.setattr(sys.modules["comfy.sd"], "load_checkpoint_guess_config", no_room)
    guider = types.SimpleNamespace(model_patcher="weightless", model_options={})
    says = "base.safetensors cannot run. Not on an engine: no sidecar. Not in ComfyUI itself: the checkpoint does not fit"
    with pytest.raises(fallback.DoesNotFit, match=says):
        with fallback.sampling_locally(guider, source, {}, "no sidecar"):
            raise AssertionError("there is nothing to sample on")
    assert guider.model_patcher == "weightless"
