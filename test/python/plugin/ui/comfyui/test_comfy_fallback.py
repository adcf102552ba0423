"""Which errors are taken for a lack of memory: ComfyUI's own word for it, of every version."""

import comfy_fakes
import pytest

pytest.importorskip("torch")
comfy_fakes.install()

import comfy.model_management as management  # noqa: E402
from refit_sidecar_plugin.ui.comfyui.fallback import _out_of_memory  # noqa: E402


class OutOfMemory(RuntimeError):
    pass


class AcceleratorError(RuntimeError):
    error_code = 2


def test_since_0_33_comfyui_is_asked_whether_an_error_is_one_of_memory(monkeypatch):
    monkeypatch.setattr(management, "OOM_EXCEPTION", OutOfMemory, raising=False)
    monkeypatch.setattr(management, "is_oom", lambda error: isinstance(error, (OutOfMemory, AcceleratorError)), raising=False)
    assert _out_of_memory(AcceleratorError("CUDA error")) and _out_of_memory(OutOfMemory()) and _out_of_memory(MemoryError())
    assert not _out_of_memory(ValueError("something else"))


def test_before_the_class_of_the_error_decides(monkeypatch):
    monkeypatch.setattr(management, "OOM_EXCEPTION", OutOfMemory, raising=False)
    monkeypatch.delattr(management, "is_oom", raising=False)
    assert _out_of_memory(OutOfMemory()) and not _out_of_memory(AcceleratorError("CUDA error"))


def test_without_a_card_every_error_would_be_one_of_memory_by_comfyuis_word(monkeypatch):
    monkeypatch.setattr(management, "OOM_EXCEPTION", Exception, raising=False)
    monkeypatch.setattr(management, "is_oom", lambda error: True, raising=False)
    assert _out_of_memory(MemoryError()) and not _out_of_memory(ValueError("something else"))
