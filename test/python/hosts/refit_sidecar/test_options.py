"""Every option of a RefitModule changes what it says, or says that it does not."""

import logging

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from pairs import Pair
from refit_sidecar import RefitModule, State
from refit_sidecar.scripts import tiny
from small_models import sd15, sd15_call
from torch import nn


class Small(nn.Module):
    """Its repeated class is compiled in a second."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 8))

    def forward(self, x):
        return self.layers(x)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(self.one(x))


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    with torch.no_grad():
        yield


def _entries(folder):
    return [place for place in folder.iterdir() if (place / "manifest.json").is_file()]


@pytest.mark.e2e
def test_compiled_code_is_kept_by_structure_and_found_again(tmp_path):
    x = torch.randn(3, 8)
    keep = {"tier": "compiled", "cache_built_engines": True, "engine_cache_dir": tmp_path}
    module, plain = RefitModule(Small().eval(), **keep), Small().eval()
    assert torch.allclose(module(x), plain(x), atol=1e-5) and module.tier == "compiled"
    for each in (module, plain):
        each.layers[0].weight.mul_(2)
    assert torch.allclose(module(x), plain(x), atol=1e-5)
    assert module.counts["builds"] == 1 and module._refit._runner.compilations == 1 and module.counts["cache_hits"] == 0
    (entry,) = _entries(tmp_path)
    torch._dynamo.reset()
    # Other weights, the same structure.
    again = RefitModule(plain, tier="compiled", reuse_cached_engines=True, engine_cache_dir=tmp_path)
    assert torch.allclose(again(x), module(x), atol=1e-5) and again.counts["cache_hits"] == 1
    torch._dynamo.reset()
    without = RefitModule(Small().eval(), tier="compiled", cache_built_engines=True, engine_cache_dir=tmp_path)
    without(x)
    assert without.counts["cache_hits"] == 0
    torch._dynamo.reset()
    # Another structure, and no room for both.
    other = RefitModule(Small(16).eval(), **keep, engine_cache_size=1)
    other(x)
    assert [place.name for place in _entries(tmp_path)] == [other._refit.cache._key.entry] != [entry.name]


def test_nothing_is_kept_without_the_options(tmp_path):
    module = RefitModule(Small().eval(), tier="compiled", engine_cache_dir=tmp_path)
    module(torch.randn(3, 8))
    assert module.tier == "compiled" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("given, mode", [
    ({}, "make_refittable"), ({"make_refittable": True}, "make_refittable"), ({"strip_engine_weights": True}, "strip_engine_weights"),
    ({"make_refittable": False}, "fixed"), ({"strip_engine_weights": False}, "make_refittable"), ({"mode": "fixed", "make_refittable": True}, "fixed"),
    ({"strip_engine_weights": False, "make_refittable": False}, "fixed"),
])  # fmt: skip
def test_modes(given, mode):
    module, plain = RefitModule(Small().eval(), **given), Small().eval()
    assert module._refit.options.mode == mode
    x = torch.randn(3, 8)
    module(x)
    for each in (module, plain):
        each.layers[0].bias.add_(1)
    assert torch.allclose(module(x), plain(x), atol=1e-6)
    assert module.counts["builds"] == (2 if mode == "fixed" else 1)


def test_values_that_are_none():
    for given, text in (
        ({"mode": "soft"}, "mode: expected one of"),
        ({"tier": "fast"}, "tier: expected one of"),
        ({"host": "cloud"}, "host: expected one of"),
        ({"make_refittable": 1}, "make_refittable: expected True or False"),
    ):
        with pytest.raises(ValueError, match=text):
            RefitModule(Small(), **given)


@pytest.mark.parametrize("tolerance, builds", [(0.5, 1), (1e-9, 2)])
def test_the_tolerance_of_a_comparison(tolerance, builds):
    pair = Pair(sd15, sd15_call, tolerance=tolerance)
    pair.check()
    pair.both(lambda module: setattr(module.mid_block.resnets[0], "output_scale_factor", 1.001))
    assert pair.module.state is State.UNKNOWN
    pair.check(0.5)
    assert pair.module.counts["builds"] == builds


def test_offloading_says_where_it_does_nothing(caplog):
    module = RefitModule(Small().eval(), offload_module_to_cpu=True, device="cpu")
    module(torch.randn(3, 8))
    module(torch.randn(3, 8))
    assert [record.message for record in caplog.records].count(
        "refit_sidecar: offload_module_to_cpu: the engine runs on cpu, where there is nothing to give back"
    ) == 1
    assert module.served_by == "engine"


def test_settings_of_tensorrt_are_named(caplog):
    with caplog.at_level(logging.INFO, "refit_sidecar"):
        RefitModule(Small(), min_block_size=1, use_python_runtime=True)
    assert "min_block_size, use_python_runtime: settings of TensorRT, which serves nothing here" in caplog.text


def test_fp32_and_every_number_format_of_the_input_stays():
    x = torch.randn(3, 8, dtype=torch.float16)
    module, plain = RefitModule(Small().half().eval(), precision="fp32"), Small().half().eval()
    got = module(x)
    assert got.dtype == torch.float16 and torch.allclose(got, plain(x), atol=1e-2)
    assert {value.dtype for value in module._refit._runner.module.parameters()} == {torch.float32}


def test_the_refit_map_names_what_is_tied():
    module = RefitModule(Tied().eval())
    assert module.refit_map == {"one.weight": "refittable", "other.weight": "same as one.weight"}
    x = torch.randn(2, 4)
    module(x)
    module.one.weight.mul_(2)
    assert torch.allclose(module(x), x @ module.one.weight.T @ module.one.weight.T, atol=1e-5) and module.served_by == "engine"


def test_the_lines_of_the_published_diffusers_example():
    """torch_tensorrt's example of its mutable module under an SDXL pipeline, with the class name changed."""
    settings = {"use_python_runtime": True, "enabled_precisions": {torch.float32}, "debug": True, "immutable_weights": False}
    found = tiny.sdxl()
    none = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = StableDiffusionXLPipeline(
        vae=found.vae, unet=found.unet, scheduler=EulerDiscreteScheduler(), force_zeros_for_empty_prompt=False, **none
    )
    pipe.set_progress_bar_config(disable=True)
    file = {f"unet.{name}": value for name, value in tiny.lora(pipe.unet, 1).items()}
    given = {**tiny.prompt(pipe), "height": 16, "width": 16, "num_inference_steps": 2, "output_type": "latent"}

    def picture():
        return pipe(**given, generator=torch.Generator().manual_seed(0)).images.clone()

    plain = picture()
    pipe.unet = RefitModule(pipe.unet, **settings)
    BATCH = torch.export.Dim("BATCH", min=2, max=24)
    _HEIGHT = torch.export.Dim("_HEIGHT", min=1, max=32)
    _WIDTH = torch.export.Dim("_WIDTH", min=1, max=32)
    HEIGHT = 4 * _HEIGHT
    WIDTH = 4 * _WIDTH
    args_dynamic_shapes = ({0: BATCH, 2: HEIGHT, 3: WIDTH}, {})
    kwargs_dynamic_shapes = {
        "encoder_hidden_states": {0: BATCH},
        "added_cond_kwargs": {"text_embeds": {0: BATCH}, "time_ids": {0: BATCH}},
        "return_dict": None,
    }
    pipe.unet.set_expected_dynamic_shape_range(args_dynamic_shapes, kwargs_dynamic_shapes)
    assert torch.allclose(picture(), plain, atol=1e-4) and pipe.unet.served_by == "engine"
    pipe.load_lora_weights(file, adapter_name="lora1")
    pipe.set_adapters(["lora1"], adapter_weights=[1])
    with_lora = picture()
    assert not torch.allclose(with_lora, plain, atol=1e-3)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert torch.allclose(picture(), with_lora, atol=1e-4)
    assert pipe.unet.counts["builds"] == 1 and pipe.unet.counts["original"] == 0
