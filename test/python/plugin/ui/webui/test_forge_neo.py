"""Forge Neo in stand-ins made from its recorded facts (test_real_ui.py runs a real one): what is served, what is left alone, and how its ways of loading are told apart."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from forge_fakes import PARAMETER, EarlyNeoPatcher, KModel, NeoPatcher  # noqa: E402
from forge_ui import IN_THE_UI, Forge, X, on_engine  # noqa: E402


class Settings:
    """backend.args.dynamic_args: a class that also answers to `get`."""

    nunchaku = False
    ops: str | None = None
    forge_unet_storage_dtype: torch.dtype | None = None
    ref_latents: list[torch.Tensor] | None = None
    concat_latent: torch.Tensor | None = None

    @classmethod
    def get(cls, key: str, default: object = None) -> object:
        return getattr(cls, key, default)


@pytest.fixture(params=[NeoPatcher, EarlyNeoPatcher])
def neo(request, tmp_path, monkeypatch):
    made = Forge(tmp_path, monkeypatch, request.param)
    made.settings = type("dynamic_args", (Settings,), {"ref_latents": []})
    arguments = types.ModuleType("backend.args")
    arguments.dynamic_args = made.settings
    monkeypatch.setitem(sys.modules, "backend.args", arguments)
    yield made
    made.stop()


def lora(neo, name: str, strength: float, online: bool = False) -> None:
    """As Neo's loader: patches, and the note of what was loaded."""
    neo.lora(name, strength, online=online)
    noted = getattr(neo.processing.sd_model, "current_lora_hash", "[]")
    neo.processing.sd_model.current_lora_hash = str([*eval(noted), [neo.file(f"Lora/{name}"), strength, 1.0, online]])


def test_a_sampling_run_is_on_the_engine_and_the_uis_unet_keeps_its_adapters(neo):
    lora(neo, "ink.safetensors", 0.5)
    lora(neo, "neon.safetensors", -0.25)
    neo.before_sampling()
    assert neo.stacks == [[("adapter:ink.safetensors", 0.5), ("adapter:neon.safetensors", -0.25)]]
    assert torch.equal(neo.step(), on_engine(0.25))
    assert neo.unet.patches == {} and neo.unet.load_device == torch.device("cpu") and neo.unet.patches_uuid != neo.own.patches_uuid
    assert neo.unet.memory_required([4, 4, 8, 8]) == 0 and neo.unet.clone().memory_required([4, 4, 8, 8]) == 4000
    assert len(neo.own.patches[PARAMETER]) == 2 and neo.own.memory_required([4, 4, 8, 8]) == 4000
    neo.hook.end()
    assert neo.sidecar.leases == {} and neo.processing.comments == []


def test_an_engine_that_fails_hands_over_to_the_patcher_with_its_adapters(neo):
    lora(neo, "ink.safetensors", 0.5)
    neo.sidecar.faults.die_after_steps = 1
    neo.before_sampling()
    assert torch.equal(neo.step(), on_engine(0.5))
    assert torch.equal(neo.step(), IN_THE_UI)
    assert neo.memory.loaded == [(neo.own, 2 * 1000 * X.shape[0])]


def test_a_file_that_is_quantised_layer_by_layer_is_served_as_it_is(neo):
    neo.settings.ops = "MixedPrecisionOps"
    neo.own.model.storage_dtype = torch.float8_e4m3fn
    lora(neo, "ink.safetensors", 0.5)
    neo.before_sampling()
    assert torch.equal(neo.step(), on_engine(0.5))


def low_bits_int8(neo):
    neo.settings.ops = "ForgeOperationsInt8"


def low_bits_fp8(neo):
    neo.settings.forge_unet_storage_dtype = neo.own.model.storage_dtype = torch.float8_e4m3fn


def a_file_in_fp8(neo):
    neo.own.model.storage_dtype = torch.float8_e4m3fn


def gguf(neo):
    neo.own.model.storage_dtype = "gguf"


def nunchaku(neo):
    neo.settings.nunchaku = True


def reference_pictures(neo):
    neo.settings.ref_latents = [X]


def reference_pictures_on_the_model(neo):
    neo.processing.sd_model.ref_latents = [X]


def a_first_frame(neo):
    neo.settings.concat_latent = X


def online(neo):
    lora(neo, "neon.safetensors", 0.5, online=True)


def other_values(neo):
    neo.own.patches[PARAMETER][0] = (0.25, *neo.own.patches[PARAMETER][0][1:])


OBSTACLES = {
    low_bits_int8: '"Diffusion in Low Bits" is int8',
    low_bits_fp8: '"Diffusion in Low Bits" is fp8',
    a_file_in_fp8: "stored as torch.float8_e4m3fn",
    gguf: "stored as gguf",
    nunchaku: "Nunchaku",
    reference_pictures: "reference pictures",
    reference_pictures_on_the_model: "reference pictures",
    a_first_frame: "reference pictures",
    online: "online mode",
    other_values: "after they were loaded",
}


@pytest.mark.parametrize(("obstruct", "says"), OBSTACLES.items(), ids=[obstruct.__name__ for obstruct in OBSTACLES])
def test_what_an_engine_would_not_repeat_stays_in_the_ui_with_one_clear_line(neo, obstruct, says):
    lora(neo, "ink.safetensors", 0.5)
    obstruct(neo)
    neo.before_sampling()
    assert neo.unet is neo.own and neo.view.state == "fallback" and says in neo.view.line
    assert len(neo.processing.comments) == 1 and neo.sidecar.leases == {}


#: Model classes of Neo's loader whose call an engine knows, as its source names them, and those that it does not.
SERVED = (
    "IntegratedUNet2DConditionModel",
    "IntegratedFluxTransformer2DModel",
    "IntegratedChromaTransformer2DModel",
    "NextDiT",
    "QwenImageTransformer2DModel",
    "SingleStreamDiT",
    "ErnieImageModel",
)
LEFT = ("Anima", "WanModel", "SVDQFluxTransformer2DModel", "NunchakuQwenImageTransformer2DModel")


@pytest.mark.parametrize("name", [*SERVED, *LEFT])
def test_neos_model_classes_are_served_or_named(neo, name):
    from refit_sidecar_plugin.ui.denoising import NotServed
    from refit_sidecar_plugin.ui.webui.forge.patcher import shape_of

    neo.own.model.diffusion_model.__class__ = type(name, (type(neo.own.model.diffusion_model),), {})
    if name in SERVED:
        assert shape_of(neo.own).inputs["context"] == "encoder_hidden_states"
    else:
        with pytest.raises(NotServed, match=name):
            shape_of(neo.own)


def test_neo_is_told_from_forge_by_its_version_file(neo, monkeypatch):
    from refit_sidecar_plugin.ui.webui.plugin import ui_name

    forge_version = types.ModuleType("modules_forge.forge_version")
    forge_version.version = "neo"
    for name, module in (("modules_forge", types.ModuleType("modules_forge")), ("modules_forge.forge_version", forge_version)):
        module.__path__, module.__spec__ = [], types.SimpleNamespace(name=name)
        monkeypatch.setitem(sys.modules, name, module)
    assert ui_name() == "Forge Neo"
    forge_version.version = "f2.0.1"
    assert ui_name() == "Forge"


def test_neos_further_folders_are_watched(neo, tmp_path):
    from refit_sidecar_plugin.ui.webui.plugin import folders

    for name in ("more loras", "more checkpoints"):
        (tmp_path / name).mkdir()
    neo.modules.shared.cmd_opts.lora_dirs = [str(tmp_path / "more loras")]
    neo.modules.shared.cmd_opts.ckpt_dirs = [str(tmp_path / "more checkpoints")]
    found = {(Path(folder.path).name, folder.kind) for folder in folders()}
    assert {("more loras", "adapters"), ("more checkpoints", "checkpoints")} <= found


def test_the_stand_in_has_neos_own_model_at_work(neo):
    assert torch.equal(neo.step(), IN_THE_UI) and isinstance(neo.own.model, KModel)
