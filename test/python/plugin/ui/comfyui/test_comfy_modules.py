"""Whether a torch model was changed in place; ComfyUI's own exchange of a part is none."""

import comfy_fakes
import pytest

torch = pytest.importorskip("torch")
comfy_fakes.install()

from refit_sidecar_plugin.ui.comfyui.modules import changed, outline  # noqa: E402


def model():
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))


def other_forward(made):
    made[1].forward = lambda x: x


def a_hook(made):
    made[0].register_forward_hook(lambda *_: None)


def another_layer(made):
    made[1][0] = torch.nn.Linear(2, 2)


def one_more_layer(made):
    made[1].add_module("2", torch.nn.ReLU())


@pytest.mark.parametrize(("change", "where"), [(other_forward, "1"), (a_hook, "0"), (another_layer, "1.0"), (one_more_layer, "1.2")])
def test_a_change_is_named(change, where):
    made = model()
    before = outline(made)
    assert changed(before, made) is None
    change(made)
    assert changed(before, made) == where


def test_weights_that_come_go_or_are_patched_are_no_change():
    made = model()
    before = outline(made)
    made[0].weight = torch.nn.Parameter(torch.zeros(2, 2))
    made[0].weight_function = [lambda weight: weight]
    made[0].comfy_patched_weights = True
    assert changed(before, made) is None


def test_a_part_that_comfyui_itself_has_exchanged_is_no_change():
    made = model()
    before = outline(made)
    another_layer(made)
    assert changed(before, made, ["1.0"]) is None and changed(before, made, ["1"]) is None and changed(before, made, ["0"]) == "1.0"


def test_a_call_of_the_weightless_model_brings_what_its_file_says():
    """Configuration that ComfyUI read off a file reaches the engine with every call."""
    from types import SimpleNamespace

    import torch
    from refit_sidecar_plugin.ui.comfyui.denoiser import RemoteDenoiser
    from refit_sidecar_plugin.ui.denoising import call_shape

    configuration = {"dtype": torch.float32, "causal_temporal_positioning": True}
    detected = SimpleNamespace(model_config=SimpleNamespace(unet_config=configuration), parameters={}, structure=lambda: None)
    denoiser = RemoteDenoiser(detected, call_shape("comfyui", "LTXV"), SimpleNamespace())
    seen = []
    denoiser.answer = lambda call: seen.append(call) or call.x
    x = torch.zeros(2, 4, 1, 2, 2)
    denoiser._forward(x, torch.ones(2), torch.zeros(2, 3, 8), None, 24, {})
    (call,) = seen
    assert call.tensors["causal"].tolist() == [1.0, 1.0] and call.tensors["frame_rate"].tolist() == [24.0, 24.0]
