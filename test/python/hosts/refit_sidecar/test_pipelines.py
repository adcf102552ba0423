"""Real diffusers pipelines, their LoRA calls made on the pipeline, beside the same pipeline without an engine."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    UniPCMultistepScheduler,
    WanPipeline,
)  # fmt: skip
from refit_sidecar import RefitModule
from refit_sidecar.scripts import tiny
from small_models import UNET, sd3, sd15, seeded, wan

# A minute or more on two cores: with the long tests.
pytestmark = pytest.mark.e2e

LATENT = {"num_inference_steps": 2, "output_type": "latent"}
SMALL = {"height": 16, "width": 16}
WORDS = {"prompt_embeds": torch.ones(1, 5, 32), "negative_prompt_embeds": torch.zeros(1, 5, 32)}


def _vae(channels: int = 4):
    torch.manual_seed(3)
    return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=channels, sample_size=16, shift_factor=0.0).eval()


def _sd15(kind=StableDiffusionPipeline, channels: int = 4, **more):
    unet = (
        seeded(sd15)
        if channels == 4
        else seeded(lambda: type(sd15())(**UNET, cross_attention_dim=32, attention_head_dim=8, in_channels=channels))
    )
    none = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    return kind(vae=_vae(), unet=unet, scheduler=EulerDiscreteScheduler(), requires_safety_checker=False, **none, **more)


def _controlnet():
    torch.manual_seed(4)
    net = ControlNetModel(block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=32,
                          attention_head_dim=8, conditioning_embedding_out_channels=(8,)).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return _sd15(StableDiffusionControlNetPipeline, controlnet=net)


def _sdxl(kind, **more):
    found = tiny.sdxl()
    none = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    return kind(vae=found.vae, unet=found.unet, scheduler=EulerDiscreteScheduler(), force_zeros_for_empty_prompt=False, **none, **more)


def _sdxl_controlnet():
    torch.manual_seed(4)
    net = ControlNetModel.from_unet(tiny.sdxl().unet, conditioning_embedding_out_channels=(8,)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return _sdxl(StableDiffusionXLControlNetPipeline, controlnet=net)


def _kontext():
    found = tiny.flux_pipeline()
    return FluxKontextPipeline(FlowMatchEulerDiscreteScheduler(), _vae(), None, None, None, None, found.transformer)


def _sd3():
    return StableDiffusion3Pipeline(seeded(sd3), FlowMatchEulerDiscreteScheduler(), _vae(16), None, None, None, None, None, None)


def _wan(**more):
    torch.manual_seed(5)
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    return WanPipeline(tokenizer=None, text_encoder=None, vae=vae.eval(), scheduler=scheduler, transformer=seeded(wan), **more)


_picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
PIPELINES = {
    "sd15": (_sd15, "unet", {**WORDS, **SMALL}),
    "sd15 controlnet": (_controlnet, "unet", {**WORDS, **SMALL, "image": _picture}),
    "sd15 inpaint": (lambda: _sd15(StableDiffusionInpaintPipeline, 9), "unet", {**WORDS, **SMALL, "image": _picture, "mask_image": (_picture[:, :1] > 0.5).float()}),
    "sdxl": (tiny.sdxl, "unet", {**tiny.prompt(None), **SMALL}),
    "sdxl controlnet": (_sdxl_controlnet, "unet", {**tiny.prompt(None), **SMALL, "image": _picture}),
    "sdxl inpaint": (lambda: _sdxl(StableDiffusionXLInpaintPipeline), "unet", {**tiny.prompt(None), **SMALL, "image": _picture, "mask_image": (_picture[:, :1] > 0.5).float(),
                                                                            "strength": 1.0}),
    "sdxl img2img": (lambda: _sdxl(StableDiffusionXLImg2ImgPipeline), "unet", {**tiny.prompt(None), "image": _picture, "strength": 1.0}),
    "sd3": (_sd3, "transformer", {**WORDS, "pooled_prompt_embeds": torch.ones(1, 16), "negative_pooled_prompt_embeds": torch.zeros(1, 16), **SMALL}),
    "flux": (tiny.flux_pipeline, "transformer", {"prompt_embeds": torch.ones(1, 5, 32), "pooled_prompt_embeds": torch.ones(1, 16), **SMALL}),
    "flux kontext": (_kontext, "transformer", {"prompt_embeds": torch.ones(1, 5, 32), "pooled_prompt_embeds": torch.ones(1, 16), "image": _picture, **SMALL,
                                               "_auto_resize": False, "max_area": 256}),
    "wan": (_wan, "transformer", {"prompt_embeds": torch.ones(1, 5, 16), "negative_prompt_embeds": torch.zeros(1, 5, 16), "num_frames": 5, "height": 32, "width": 32}),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_calls_on_the_pipeline(name):
    make, part, given = PIPELINES[name]
    plain = make()
    plain.set_progress_bar_config(disable=True)
    engine = copy.deepcopy(plain)
    files = [{f"{part}.{key}": value for key, value in tiny.lora(copy.deepcopy(getattr(plain, part)), seed).items()} for seed in (1, 2)]
    setattr(engine, part, RefitModule(getattr(engine, part)))
    module = getattr(engine, part)

    def check(what):
        one, other = (_latents(pipe(**given, **LATENT, generator=torch.Generator().manual_seed(0))) for pipe in (engine, plain))
        error = float((one - other).norm() / other.norm())
        assert error < 1e-3, f"{what}: {error:.1e}"
        assert module.served_by == "engine", what
        return one.clone()

    def both(action):
        for pipe in (engine, plain):
            action(pipe)

    base = check("base")
    both(lambda pipe: pipe.load_lora_weights(dict(files[0]), adapter_name="a"))
    with_a = check("one LoRA")
    assert not torch.equal(base, with_a)
    both(lambda pipe: pipe.load_lora_weights(dict(files[1]), adapter_name="b"))
    both(lambda pipe: pipe.set_adapters(["a", "b"], [0.6, -0.3]))
    check("two")
    both(lambda pipe: pipe.set_adapters(["a"], [1.0]))
    assert torch.equal(check("the first again"), with_a)
    both(lambda pipe: pipe.fuse_lora(lora_scale=0.5))
    check("fused")
    both(lambda pipe: pipe.unfuse_lora())
    both(lambda pipe: pipe.delete_adapters("b"))
    check("unfused, one deleted")
    both(lambda pipe: pipe.disable_lora())
    check("off")
    both(lambda pipe: pipe.unload_lora_weights())
    check("unloaded")
    assert module.counts["builds"] == 1 and module.counts["original"] == 0


def _latents(answer):
    found = getattr(answer, "images", None)
    return torch.as_tensor(answer.frames if found is None else found)


def test_both_transformers_of_wan_22():
    plain = _wan(transformer_2=seeded(wan, seed=1), boundary_ratio=0.9)
    plain.set_progress_bar_config(disable=True)
    engine = copy.deepcopy(plain)
    file = {f"transformer.{key}": value for key, value in tiny.lora(seeded(wan), 1).items()}
    engine.transformer, engine.transformer_2 = RefitModule(engine.transformer), RefitModule(engine.transformer_2)
    given = {**PIPELINES["wan"][2], "guidance_scale": 3.0, "guidance_scale_2": 2.0}

    def check():
        one, other = (
            _latents(pipe(**given, **{**LATENT, "num_inference_steps": 4}, generator=torch.Generator().manual_seed(0)))
            for pipe in (engine, plain)
        )
        assert float((one - other).norm() / other.norm()) < 1e-3
        return one.clone()

    base = check()
    for pipe in (engine, plain):
        pipe.load_lora_weights(dict(file), adapter_name="a")
        pipe.load_lora_weights(dict(file), adapter_name="b", load_into_transformer_2=True)
        pipe.transformer.set_adapters(["a"], [0.7])
        pipe.transformer_2.set_adapters(["b"], [-0.5])
    assert not torch.equal(check(), base)
    for pipe in (engine, plain):
        pipe.disable_lora()
    assert torch.equal(check(), base)
    for module in (engine.transformer, engine.transformer_2):
        assert module.counts["original"] == 0 and module.counts["engine"] > 0 and module.counts["builds"] == 1
