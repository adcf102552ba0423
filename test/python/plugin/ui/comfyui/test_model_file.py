"""Accelerate Model finds the file of a loaded model, also where ComfyUI calls parameters otherwise than the file does."""

from types import SimpleNamespace

import comfy_fakes
import pytest

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
comfy_fakes.install()

from refit_sidecar_plugin.ui.comfyui.model_file import _same_weights  # noqa: E402

NORM = "double_blocks.0.img_attn.norm.query_norm"


def renaming(tensors):
    """As ComfyUI 0.33 loads Flux."""
    return {name.replace("_norm.scale", "_norm.weight"): tensor for name, tensor in tensors.items()}


def stored():
    return {f"{NORM}.scale": torch.arange(8.0), "img_in.weight": torch.arange(12.0).reshape(3, 4)}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_file_whose_names_comfyui_changes_when_it_loads_it_is_found(tmp_path, prefix):
    path = str(tmp_path / "flux.safetensors")
    save_file({prefix + name: tensor for name, tensor in stored().items()}, path)
    config = SimpleNamespace(process_unet_state_dict=renaming)
    loaded = renaming(stored())
    assert _same_weights(path, loaded, config)
    changed = {**loaded, f"{NORM}.weight": torch.ones(8)}
    assert not _same_weights(path, changed, config)
    assert not _same_weights(path, {**loaded, "img_in.weight": torch.zeros(4, 3)}, config)
    assert not _same_weights(path, {**loaded, "more.weight": torch.zeros(2)}, config)


def test_a_file_that_the_models_own_loader_cannot_take_is_another_models(tmp_path):
    def fails(tensors):
        raise KeyError("pixel_embedder.proj.weight")

    path = str(tmp_path / "other.safetensors")
    save_file(stored(), path)
    assert not _same_weights(path, renaming(stored()), SimpleNamespace(process_unet_state_dict=fails))
