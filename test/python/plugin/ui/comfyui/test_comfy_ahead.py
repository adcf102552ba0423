"""What a prompt will want is read from its graph, and asked for while its loaders read; the sampler's own wish decides."""

from __future__ import annotations

import threading
import types

import comfy_fakes
import pytest

comfy_fakes.install()

import folder_paths  # noqa: E402
from refit_sidecar_plugin.client import SidecarError  # noqa: E402
from refit_sidecar_plugin.engine import Wanted  # noqa: E402
from refit_sidecar_plugin.ui.comfyui import ahead as module  # noqa: E402
from refit_sidecar_plugin.ui.comfyui.guess import Guess, guess  # noqa: E402


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def prompt(**more):
    return {
        "load": node("RefitLoadEngine", ckpt_name="base.safetensors"),
        "a": node("LoraLoaderModelOnly", model=["load", 0], lora_name="a.safetensors", strength_model=0.8),
        "b": node("LoraLoader", model=["a", 0], clip=["load", 1], lora_name="b.safetensors", strength_model=1, strength_clip=0),
        "words": node("CLIPTextEncode", clip=["b", 1], text="a lighthouse"),
        "sample": node("KSampler", model=["b", 0], positive=["words", 0], seed=5),
        **more,
    }


WHOLE = Guess("base.safetensors", "auto", "auto", (("a.safetensors", 0.8), ("b.safetensors", 1.0)))


def test_a_chain_of_loaders_is_a_stack():
    assert guess(prompt()) == WHOLE
    # What stands between loaders and sampler gets the same model.
    shifted = prompt(shift=node("ModelSamplingDiscrete", model=["b", 0]), sample=node("KSampler", model=["shift", 0]))
    assert guess(shifted) == WHOLE


def test_the_packs_own_loaders_are_read_too():
    stack = {"one": node("RefitLoraStack", lora_name="a.safetensors", strength=0.5),
             "two": node("RefitLoraStack", lora_name="b.safetensors", strength=-1, lora_stack=["one", 0]),
             "load": node("RefitLoadEngineStacked", ckpt_name="m", host="torch", lora_stack=["two", 0]), "sample": node("KSampler", model=["load", 0])}  # fmt: skip
    assert guess(stack) == Guess("m", "torch", "auto", (("a.safetensors", 0.5), ("b.safetensors", -1.0)))
    one = {
        "load": node("RefitLoadEngineLora", ckpt_name="m", lora_name="a.safetensors", strength=0),
        "sample": node("KSampler", model=["load", 0]),
    }
    assert guess(one) == Guess("m", "auto", "auto")


@pytest.mark.parametrize(
    "changed",
    [
        {"a": node("LoraLoaderModelOnly", model=["load", 0], lora_name="a.safetensors", strength_model=["number", 0])},
        {"a": node("SomeoneElses", model=["load", 0])},
        {"load": node("CheckpointLoaderSimple", ckpt_name="base.safetensors")},
        {"second": node("KSampler", model=["a", 0])},
        {"load": node("LoraLoader", model=["b", 0], lora_name="a", strength_model=1, strength_clip=1)},
        {"load": "no node", "sample": node("KSampler", model=["load", "0"], seed=None)},
    ],
)
def test_what_cannot_be_told_is_not_guessed(changed):
    found = guess(prompt(**changed))
    # Behind a node that nobody knows the guess ends where it begins: the engine without what follows.
    assert found is None or found.stack == ()


class Pending:
    def __init__(self) -> None:
        self.ended, self.cancelled = threading.Event(), False

    def wait(self, seconds):
        return self.ended.wait(seconds)

    def cancel(self):
        self.cancelled = True
        self.ended.set()


class Link:
    def __init__(self) -> None:
        self.calls, self.pending, self.error = [], Pending(), None

    def start(self, method, params):
        if self.error is not None:
            raise self.error
        self.calls.append((method, params))
        return self.pending


@pytest.fixture
def ahead(monkeypatch):
    monkeypatch.setattr(folder_paths, "get_full_path", lambda kind, name: f"/models/{kind}/{name}")
    monkeypatch.setattr(module, "adapter_path", lambda name: None if "gone" in name else f"/models/loras/{name}")
    running = [("prompt-1", prompt())]
    monkeypatch.setattr(module, "_running", lambda: running[-1])
    made = module.Ahead(Link(), types.SimpleNamespace(id_of=lambda path, check: f"id:{path}"))
    made.running = running
    return made


def worked(ahead):
    ahead._worker.submit(lambda: None).result(10)


def wanted(**more):
    return Wanted("id:/models/checkpoints/base.safetensors", (), **more)


def test_the_engine_of_the_last_run_is_asked_once_a_prompt(ahead):
    ahead.loading()
    ahead.ran(wanted(residuals=True), "lease-1")
    ahead._link.pending.ended.set()
    for _ in range(3):
        ahead.loading()
    worked(ahead)
    ((method, params),) = ahead._link.calls
    assert method == "engine.ahead" and params["after"] == "lease-1" and params["residuals"] is True
    assert params["stack"] == [
        {"adapter": "id:/models/loras/a.safetensors", "strength": 0.8},
        {"adapter": "id:/models/loras/b.safetensors", "strength": 1.0},
    ]
    ahead.running.append(("prompt-2", prompt()))
    ahead.loading()
    worked(ahead)
    assert len(ahead._link.calls) == 2


def test_a_right_guess_stays_and_a_wrong_one_is_dropped(ahead):
    ahead.ran(wanted(), "lease-1")
    ahead.loading()
    for _ in range(1000):
        if ahead._link.calls:
            break
        threading.Event().wait(0.01)
    ahead.settle(iter([("a.safetensors", 0.8), ("b.safetensors", 1.0)]))
    assert not ahead._link.pending.cancelled
    ahead._link.pending.ended.set()
    worked(ahead)
    for number, found in enumerate(([("a.safetensors", 0.8)], None)):
        ahead._link.pending = Pending()
        ahead.running.append((f"other-{number}", prompt()))
        ahead.loading()
        ahead.settle(found)
        worked(ahead)
        assert ahead._link.pending.cancelled or len(ahead._link.calls) == 1


@pytest.mark.parametrize("last", [{"host": "torch"}, {"precision": "fp8"}])
def test_another_engine_than_the_last_one_is_not_brought(ahead, last):
    ahead.ran(wanted(**last), "lease-1")
    ahead.loading()
    worked(ahead)
    ahead.ran(Wanted("another checkpoint", ()), "lease-2")
    ahead.running.append(("prompt-2", prompt()))
    ahead.loading()
    worked(ahead)
    assert ahead._link.calls == []


def test_what_goes_wrong_is_left_to_the_sampler(ahead):
    ahead._link.error = SidecarError("WIRE_METHOD_UNKNOWN", "an older sidecar")
    ahead.ran(wanted(), "lease-1")
    ahead.loading()
    worked(ahead)
    gone = node("LoraLoader", model=["a", 0], lora_name="gone", strength_model=1, strength_clip=1)
    ahead.running.append(("prompt-2", prompt(b=gone)))
    ahead._link.error = None
    ahead.loading()
    worked(ahead)
    assert ahead._link.calls == []
