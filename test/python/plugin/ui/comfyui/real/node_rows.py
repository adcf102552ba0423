"""One small workflow for each of ComfyUI's own nodes that have to do with a MODEL or its conditioning, and who has to serve it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from graphs import Choices, node

Change = Callable[[dict], None]

SD15 = Choices(size=64, steps=3, adapters=[("style.safetensors", 0.7)])


@dataclass(frozen=True)
class Row:
    """`change` edits the graph of `choices` (nodes "load", "pos", "neg", "empty", "sample"). `engine`: who has to serve it."""

    group: str
    node: str
    change: Change
    engine: bool = True
    #: A sampler before the last one is on the engine.
    before: bool = False
    #: A second model of the run is left to ComfyUI, and told.
    beside: bool = False
    what: str = ""
    choices: Choices = field(default_factory=lambda: SD15)
    # Name of a narrow model of the families (test_families.WORKFLOWS), in place of `choices`.
    model: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.node, self.what, self.model))).replace(" ", "_")


def patched(kind: str, **inputs: object) -> Change:
    """The node between the loaded MODEL and the sampler."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        name = f"patch{len(nodes)}"
        nodes[name] = node(kind, model=sample["model"], **inputs)
        sample["model"] = [name, 0]

    return change


def longer(frames: int, then: Change) -> Change:
    """A video of so many frames."""

    def change(nodes: dict) -> None:
        nodes["empty"]["inputs"]["length"] = frames
        then(nodes)

    return change


def conditioned(kind: str, given: str = "conditioning", *, both: bool = False, **inputs: object) -> Change:
    """The node behind the positive conditioning; `both`: behind the negative too."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["second"] = node("TestConditioning", seed=3, tokens=77, width=nodes["pos"]["inputs"]["width"], pooled=0)
        for side in ("positive", "negative") if both else ("positive",):
            nodes[f"{side}-changed"] = node(kind, **{given: sample[side]}, **inputs)
            sample[side] = [f"{side}-changed", 0]

    return change


def combined(kind: str, **inputs: object) -> Change:
    """A second conditioning with this node behind it, beside the first."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["second"] = node("TestConditioning", seed=3, tokens=154, width=768, pooled=0)
        nodes["changed"] = node(kind, conditioning=["second", 0], **inputs)
        nodes["both"] = node("ConditioningCombine", conditioning_1=sample["positive"], conditioning_2=["changed", 0])
        sample["positive"] = ["both", 0]

    return change


def sampled(sampler: str, scheduler: str = "normal") -> Change:
    return lambda nodes: nodes["sample"]["inputs"].update(sampler_name=sampler, scheduler=scheduler)


def guided(guider: Callable[[dict], dict], sampler: dict | None = None) -> Change:
    """SamplerCustomAdvanced with a guider made of the plain sampler's inputs."""

    def change(nodes: dict) -> None:
        old = nodes["sample"]["inputs"]
        nodes["noise"] = node("RandomNoise", noise_seed=old["seed"])
        nodes["sampler"] = sampler or node("KSamplerSelect", sampler_name="euler")
        nodes["sigmas"] = node("BasicScheduler", model=old["model"], scheduler="normal", steps=old["steps"], denoise=1.0)
        nodes["guider"] = guider({**old, "nodes": nodes})
        nodes["sample"] = node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["sampler", 0], sigmas=["sigmas", 0],
            latent_image=old["latent_image"],
        )  # fmt: skip

    return change


def cfg_guider(old: dict) -> dict:
    return node("CFGGuider", **{name: old[name] for name in ("model", "positive", "negative", "cfg")})


def dual_cfg(old: dict) -> dict:
    old["nodes"]["second"] = node("TestConditioning", seed=3, tokens=77, width=768, pooled=0)
    return node(
        "DualCFGGuider", model=old["model"], cond1=old["positive"], cond2=["second", 0], negative=old["negative"], cfg_conds=4.0,
        cfg_cond2_negative=3.0, style="regular",
    )  # fmt: skip


def dual_model(old: dict) -> dict:
    loader = old["nodes"]["load"]
    old["nodes"]["load-other"] = {**loader, "inputs": {**loader["inputs"], "ckpt_name": "sd15_other.safetensors"}}
    return node(
        "DualModelGuider", model=old["model"], positive=old["positive"], cfg=4.0, model_negative=["load-other", 0], negative=old["negative"]
    )


def perp_neg(old: dict) -> dict:
    old["nodes"]["second"] = node("TestConditioning", seed=3, tokens=77, width=768, pooled=0)
    given = {name: old[name] for name in ("model", "positive", "negative", "cfg")}
    return node("PerpNegGuider", **given, empty_conditioning=["second", 0], neg_scale=0.8)


def advanced(nodes: dict) -> None:
    old = nodes["sample"]["inputs"]
    given = {name: old[name] for name in ("model", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")}
    nodes["sample"] = node(
        "KSamplerAdvanced", add_noise="enable", noise_seed=old["seed"], start_at_step=0, end_at_step=2, return_with_leftover_noise="enable", **given
    )  # fmt: skip


def custom(nodes: dict) -> None:
    old = nodes["sample"]["inputs"]
    nodes["sampler"] = node("SamplerDPMPP_2M_SDE", solver_type="midpoint", eta=0.5, s_noise=1.0, noise_device="cpu")
    nodes["sigmas"] = node("KarrasScheduler", steps=old["steps"], sigma_max=14.6, sigma_min=0.03, rho=7.0)
    given = {name: old[name] for name in ("model", "cfg", "positive", "negative", "latent_image")}
    nodes["sample"] = node("SamplerCustom", add_noise=True, noise_seed=old["seed"], sampler=["sampler", 0], sigmas=["sigmas", 0], **given)


def twice(nodes: dict) -> None:
    """A picture, made larger and drawn again with less noise."""
    first = nodes["sample"]
    nodes["first"] = first
    nodes["larger"] = node("LatentUpscale", samples=["first", 0], upscale_method="bilinear", width=96, height=96, crop="disabled")
    nodes["sample"] = node("KSampler", **{**first["inputs"], "latent_image": ["larger", 0], "denoise": 0.6})


def two_pictures(nodes: dict) -> None:
    sample = nodes["sample"]["inputs"]
    nodes["empty-too"] = node("TestLatent", seed=7, channels=4, frames=0, height=8, width=8, first_frames=0)
    nodes["batch"] = node("LatentBatch", samples1=sample["latent_image"], samples2=["empty-too", 0])
    sample["latent_image"] = ["batch", 0]


def masked_latent(nodes: dict) -> None:
    sample = nodes["sample"]["inputs"]
    nodes["mask"] = node("SolidMask", value=0.5, width=64, height=64)
    nodes["given"] = node("TestLatent", seed=7, channels=4, frames=0, height=8, width=8, first_frames=0)
    nodes["masked"] = node("SetLatentNoiseMask", samples=["given", 0], mask=["mask", 0])
    sample["latent_image"] = ["masked", 0]


def differential(nodes: dict) -> None:
    masked_latent(nodes)
    patched("DifferentialDiffusion", strength=1.0)(nodes)


def perp_neg_model(nodes: dict) -> None:
    nodes["second"] = node("TestConditioning", seed=3, tokens=77, width=768, pooled=0)
    patched("PerpNeg", empty_conditioning=["second", 0], neg_scale=0.8)(nodes)


def sharpened(nodes: dict) -> None:
    nodes["operation"] = node("LatentOperationSharpen", sharpen_radius=2, sigma=1.0, alpha=0.3)
    patched("LatentApplyOperationCFG", operation=["operation", 0])(nodes)


def merged(nodes: dict) -> None:
    loader = nodes["load"]
    nodes["load-other"] = {**loader, "inputs": {**loader["inputs"], "ckpt_name": "sd15_other.safetensors"}}
    sample = nodes["sample"]["inputs"]
    nodes["merge"] = node("ModelMergeSimple", model1=sample["model"], model2=["load-other", 0], ratio=0.4)
    sample["model"] = ["merge", 0]


def hooked(kind: str, keyframes: bool = False, **inputs: object) -> Change:
    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["hook"] = node(kind, **inputs)
        hooks = ["hook", 0]
        if keyframes:
            nodes["first-key"] = node("CreateHookKeyframe", strength_mult=0.3, start_percent=0.0)
            nodes["key"] = node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=["first-key", 0])
            nodes["keyed"] = node("SetHookKeyframes", hooks=hooks, hook_kf=["key", 0])
            hooks = ["keyed", 0]
        nodes["hooked"] = node("ConditioningSetProperties", cond_NEW=sample["positive"], strength=1.0, set_cond_area="default", hooks=hooks)
        sample["positive"] = ["hooked", 0]

    return change


def regional(nodes: dict) -> None:
    sample = nodes["sample"]["inputs"]
    nodes["mask"] = node("SolidMask", value=1.0, width=32, height=64)
    nodes["second"] = node("TestConditioning", seed=3, tokens=77, width=768, pooled=0)
    nodes["part"] = node("ConditioningSetProperties", cond_NEW=["second", 0], strength=0.8, set_cond_area="mask bounds", mask=["mask", 0])
    nodes["default"] = node("ConditioningSetDefaultCombine", cond=["part", 0], cond_DEFAULT=sample["positive"])
    sample["positive"] = ["default", 0]


def with_vae(kind: str) -> Change:
    """Inpainting and instruction models: the picture goes through the checkpoint's own VAE."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["vae"] = node("CheckpointLoaderSimple", ckpt_name="sd15_inpaint.safetensors")
        nodes["picture"] = node("EmptyImage", width=64, height=64, batch_size=1, color=8388736)
        more = {}
        if kind == "InpaintModelConditioning":
            nodes["mask"] = node("SolidMask", value=0.7, width=64, height=64)
            more = {"mask": ["mask", 0], "noise_mask": True}
        nodes["pix"] = node(kind, positive=sample["positive"], negative=sample["negative"], vae=["vae", 2], pixels=["picture", 0], **more)
        sample.update(positive=["pix", 0], negative=["pix", 1], latent_image=["pix", 2])

    return change


def controlled(nodes: dict) -> None:
    sample = nodes["sample"]["inputs"]
    nodes["control"] = node("TestControl", conditioning=sample["positive"], strength=1.0)
    sample["positive"] = ["control", 0]


def block_controlled(double: int, single: int, width: int, repeated: bool = False) -> Change:
    """A ControlNet of a transformer with so many blocks of each kind."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        given = {"width": width, "double": double, "single": single, "repeated": repeated}
        nodes["control"] = node("TestBlockControl", conditioning=sample["positive"], **given)
        sample["positive"] = ["control", 0]

    return change


def kontext(method: str) -> Change:
    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["method"] = node("FluxKontextMultiReferenceLatentMethod", conditioning=sample["positive"], reference_latents_method=method)
        sample["positive"] = ["method", 0]

    return change


def nothing(nodes: dict) -> None:
    """The stock workflow."""


INPAINT = replace(SD15, checkpoint="sd15_inpaint.safetensors", adapters=[])
SD3 = Choices(checkpoint="sd3_tiny.safetensors", folder="diffusion_models", channels=16, context=4096, pooled=2048, size=128, steps=3)
SAMPLING, GUIDANCE, INSIDE, WEIGHTS, WORDS, LATENTS = "samplers", "guidance", "inside the model", "weights", "conditioning", "latents"
SCHEDULE, CALLS, MODELS = "schedules and settings", "calls left out or split", "other models"


def guided_by(*guides: tuple[int, int, float], masked: bool = False, ic_lora: str = "") -> Change:
    """Guides of so many frames, each at a frame of the video and with a strength."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        video = nodes.get("video") and "video" or "empty"
        latent, positive, negative = [f"{video} alone", 0], sample["positive"], sample["negative"]
        nodes[f"{video} alone"] = nodes.pop(video)
        nodes["vae"] = node("TestVideoVAE")
        more = {}
        if masked:
            nodes["seen"] = node("SolidMask", value=0.5, width=192, height=128)
            more["attention_mask"] = ["seen", 0]
        if ic_lora:
            nodes["ic"] = node("LoraLoaderModelOnly", model=sample["model"], lora_name=ic_lora, strength_model=0.6)
            nodes["parameters"] = node("GetICLoRAParameters", iclora_model=["ic", 0])
            sample["model"], more["iclora_parameters"] = ["ic", 0], ["parameters", 0]
        for number, (frames, place, strength) in enumerate(guides):
            nodes[f"pictures{number}"] = node("EmptyImage", width=192, height=128, batch_size=frames, color=8388736)
            last = number == len(guides) - 1
            nodes[video if last else f"guide{number}"] = node(
                "LTXVAddGuide", positive=positive, negative=negative, vae=["vae", 0], latent=latent, image=[f"pictures{number}", 0], frame_idx=place,
                strength=strength, **more,
            )  # fmt: skip
            name = video if last else f"guide{number}"
            positive, negative, latent = [name, 0], [name, 1], [name, 2]
        sample.update(positive=positive, negative=negative)
        if video == "empty":
            sample["latent_image"] = latent
        else:
            nodes["empty"]["inputs"]["video_latent"] = latent

    return change


GUIDES = "guides of a video"
ROWS = [
    Row(SAMPLING, "KSampler", nothing),
    *(Row(SAMPLING, "KSampler", sampled(name), what=name) for name in ("euler_ancestral", "dpmpp_2m", "dpmpp_sde", "lcm", "uni_pc", "euler_cfg_pp", "heun")),
    Row(SAMPLING, "KSamplerAdvanced", advanced),
    Row(SAMPLING, "SamplerCustom", custom, what="DPM++ 2M SDE, Karras"),
    Row(SAMPLING, "SamplerCustomAdvanced", guided(cfg_guider), what="CFGGuider"),
    Row(SAMPLING, "BasicGuider", guided(lambda old: node("BasicGuider", model=old["model"], conditioning=old["positive"]))),
    Row(SAMPLING, "DualCFGGuider", guided(dual_cfg)),
    Row(SAMPLING, "DualModelGuider", guided(dual_model), what="the negative in ComfyUI", beside=True),
    Row(SAMPLING, "PerpNegGuider", guided(perp_neg)),
    Row(SAMPLING, "SamplerEulerCFGpp", guided(cfg_guider, node("SamplerEulerCFGpp", version="regular"))),
    Row(GUIDANCE, "PerpNeg", perp_neg_model),
    Row(GUIDANCE, "RescaleCFG", patched("RescaleCFG", multiplier=0.7)),
    Row(GUIDANCE, "RenormCFG", patched("RenormCFG", cfg_trunc=2.0, renorm_cfg=0.6)),
    Row(GUIDANCE, "CFGZeroStar", patched("CFGZeroStar")),
    Row(GUIDANCE, "CFGNorm", patched("CFGNorm", strength=1.0)),
    Row(GUIDANCE, "CFGOverride", patched("CFGOverride", cfg=2.0, start_percent=0.3, end_percent=1.0)),
    Row(GUIDANCE, "APG", patched("APG", eta=0.5, norm_threshold=5.0, momentum=0.1)),
    Row(GUIDANCE, "TCFG", patched("TCFG")),
    Row(GUIDANCE, "Mahiro", patched("Mahiro")),
    Row(GUIDANCE, "FreSca", patched("FreSca", scale_low=1.0, scale_high=1.25, freq_cutoff=2)),
    Row(GUIDANCE, "Epsilon Scaling", patched("Epsilon Scaling", scaling_factor=1.02)),
    Row(GUIDANCE, "TemporalScoreRescaling", patched("TemporalScoreRescaling", tsr_k=0.95, tsr_sigma=1.0)),
    Row(GUIDANCE, "VideoLinearCFGGuidance", patched("VideoLinearCFGGuidance", min_cfg=1.5), choices=replace(SD15, batch=2)),
    Row(GUIDANCE, "VideoTriangleCFGGuidance", patched("VideoTriangleCFGGuidance", min_cfg=1.5), choices=replace(SD15, batch=2)),
    Row(GUIDANCE, "LatentApplyOperationCFG", sharpened, what="LatentOperationSharpen"),
    Row(GUIDANCE, "DifferentialDiffusion", differential),
    Row(SCHEDULE, "ModelSamplingDiscrete", patched("ModelSamplingDiscrete", sampling="v_prediction", zsnr=True), what="v_prediction, zsnr"),
    Row(SCHEDULE, "ModelSamplingDiscrete", patched("ModelSamplingDiscrete", sampling="lcm", zsnr=False), what="lcm"),
    Row(SCHEDULE, "ModelSamplingContinuousEDM", patched("ModelSamplingContinuousEDM", sampling="eps", sigma_max=14.0, sigma_min=0.03)),
    Row(SCHEDULE, "ModelSamplingContinuousV", patched("ModelSamplingContinuousV", sampling="v_prediction", sigma_max=14.0, sigma_min=0.03)),
    Row(SCHEDULE, "ModelNoiseScale", patched("ModelNoiseScale", noise_scale=0.9), choices=SD3, what="SD3"),
    Row(SCHEDULE, "ModelComputeDtype", patched("ModelComputeDtype", dtype="fp32"), what="fp32"),
    Row(SCHEDULE, "ModelAttentionBackend", patched("ModelAttentionBackend", attention="pytorch attention")),
    Row(SCHEDULE, "SelectModelDevice", patched("SelectModelDevice", device="default")),
    Row(SCHEDULE, "MultiGPU_WorkUnits", patched("MultiGPU_WorkUnits", max_gpus=2), what="one device here"),
    Row(SCHEDULE, "ModelSamplingSD3", patched("ModelSamplingSD3", shift=2.0), choices=SD3, what="SD3"),
    Row(SCHEDULE, "ModelSamplingFlux", patched("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=128, height=128), model="flux-dev"),
    Row(SCHEDULE, "ModelSamplingAuraFlow", patched("ModelSamplingAuraFlow", shift=3.0), model="z-image-comfyui"),
    Row(SCHEDULE, "ModelSamplingLTXV", patched("ModelSamplingLTXV", max_shift=2.05, base_shift=0.95), model="ltxv"),
    Row(INSIDE, "FreeU", patched("FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2), engine=False),
    Row(INSIDE, "FreeU_V2", patched("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2), engine=False),
    Row(INSIDE, "HyperTile", patched("HyperTile", tile_size=64, swap_size=2, max_depth=0, scale_depth=False), engine=False),
    Row(INSIDE, "TomePatchModel", patched("TomePatchModel", ratio=0.3), engine=False),
    Row(
        INSIDE, "PatchModelAddDownscale", engine=False,
        change=patched(
            "PatchModelAddDownscale", block_number=1, downscale_factor=2.0, start_percent=0.0, end_percent=0.5, downscale_after_skip=True,
            downscale_method="bicubic", upscale_method="bicubic",
        ),
    ),
    Row(INSIDE, "SelfAttentionGuidance", patched("SelfAttentionGuidance", scale=0.5, blur_sigma=2.0), engine=False),
    Row(INSIDE, "PerturbedAttentionGuidance", patched("PerturbedAttentionGuidance", scale=3.0), engine=False),
    Row(INSIDE, "UNetSelfAttentionMultiply", patched("UNetSelfAttentionMultiply", q=1.1, k=1.0, v=1.0, out=1.0), engine=False),
    Row(INSIDE, "UNetCrossAttentionMultiply", patched("UNetCrossAttentionMultiply", q=1.1, k=1.0, v=1.0, out=1.0), engine=False),
    Row(INSIDE, "NAGuidance", patched("NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5), engine=False),
    Row(
        INSIDE, "SkipLayerGuidanceSD3", patched("SkipLayerGuidanceSD3", layers="0", scale=3.0, start_percent=0.0, end_percent=1.0),
        choices=replace(SD3, cfg=4.0), engine=False,
    ),
    Row(
        INSIDE, "SkipLayerGuidanceDiT", engine=False, model="wan21-t2v",
        change=patched(
            "SkipLayerGuidanceDiT", double_layers="0", single_layers="0", scale=3.0, start_percent=0.0, end_percent=1.0, rescaling_scale=0.0
        ),
    ),
    Row(
        INSIDE, "LTXVSpatioTemporalGuidance", patched("LTXVSpatioTemporalGuidance", scale=1.0, blocks="0", start_percent=0.0, end_percent=1.0),
        model="ltxv", engine=False,
    ),
    Row(
        INSIDE, "ScaleROPE", engine=False, model="z-image-comfyui",
        change=patched("ScaleROPE", scale_x=1.1, shift_x=0.0, scale_y=1.1, shift_y=0.0, scale_t=1.0, shift_t=0.0),
    ),
    Row(WEIGHTS, "LoraLoaderModelOnly", patched("LoraLoaderModelOnly", lora_name="kron.safetensors", strength_model=0.5)),
    Row(WEIGHTS, "LoraLoaderBypassModelOnly", patched("LoraLoaderBypassModelOnly", lora_name="hada.safetensors", strength_model=0.5)),
    Row(WEIGHTS, "ModelMergeSimple", merged, engine=False),
    Row(WEIGHTS, "CreateHookLoraModelOnly", hooked("CreateHookLoraModelOnly", lora_name="kron.safetensors", strength_model=0.7), engine=False),
    Row(
        WEIGHTS, "CreateHookKeyframe", hooked("CreateHookLoraModelOnly", True, lora_name="kron.safetensors", strength_model=0.7), engine=False,
        what="SetHookKeyframes",
    ),
    Row(
        WEIGHTS, "CreateHookModelAsLoraModelOnly", engine=False,
        change=hooked("CreateHookModelAsLoraModelOnly", ckpt_name="sd15_other.safetensors", strength_model=0.5),
    ),
    Row(CALLS, "EasyCache", patched("EasyCache", reuse_threshold=0.2, start_percent=0.0, end_percent=1.0, verbose=False), choices=replace(SD15, steps=5)),
    Row(CALLS, "LazyCache", patched("LazyCache", reuse_threshold=0.2, start_percent=0.0, end_percent=1.0, verbose=False), choices=replace(SD15, steps=5)),
    Row(
        CALLS, "WanContextWindowsManual", model="wan21-t2v", what="windows of two of four latent frames",
        change=longer(13, patched(
            "WanContextWindowsManual", context_length=5, context_overlap=1, context_schedule="standard_static", context_stride=1, closed_loop=False,
            fuse_method="pyramid", freenoise=False, retain_first_frame=False, split_conds_to_windows=False,
        )),
    ),
    Row(WORDS, "ConditioningAverage", conditioned("ConditioningAverage", "conditioning_to", conditioning_from=["second", 0], conditioning_to_strength=0.6)),
    Row(WORDS, "ConditioningConcat", conditioned("ConditioningConcat", "conditioning_to", conditioning_from=["second", 0])),
    Row(WORDS, "ConditioningMultiply", conditioned("ConditioningMultiply", multiplier=1.2)),
    Row(WORDS, "ConditioningZeroOut", conditioned("ConditioningZeroOut")),
    Row(WORDS, "ConditioningSetTimestepRange", conditioned("ConditioningSetTimestepRange", start=0.0, end=0.6)),
    Row(WORDS, "ConditioningCombine", combined("ConditioningSetAreaStrength", strength=0.8), what="ConditioningSetAreaStrength"),
    Row(WORDS, "ConditioningSetArea", combined("ConditioningSetArea", width=64, height=64, x=32, y=0, strength=0.7), choices=replace(SD15, size=96)),
    Row(WORDS, "ConditioningSetAreaPercentage", combined("ConditioningSetAreaPercentage", width=0.5, height=1.0, x=0.5, y=0.0, strength=0.7)),
    Row(WORDS, "ConditioningSetDefaultCombine", regional, what="ConditioningSetProperties with a mask"),
    Row(WORDS, "InpaintModelConditioning", with_vae("InpaintModelConditioning"), choices=INPAINT),
    Row(WORDS, "ControlNetApplyAdvanced", controlled, what="residuals of a stand-in"),
    Row(WORDS, "ControlNetApplyAdvanced", block_controlled(2, 2, 64), model="flux-dev", what="a tensor for each block, beside references"),
    Row(WORDS, "ControlNetApplyAdvanced", block_controlled(19, 38, 64, repeated=True), model="chroma", what="a tensor for two blocks"),
    Row(WORDS, "ControlNetApplyAdvanced", block_controlled(2, 0, 256), model="qwen-image", what="of one kind of blocks"),
    Row(WORDS, "ControlNetApplyAdvanced", block_controlled(1, 2, 64), model="flux-dev", what="behind some blocks"),
    Row(WORDS, "FluxGuidance", conditioned("FluxGuidance", guidance=2.5), model="flux-dev"),
    Row(WORDS, "FluxDisableGuidance", conditioned("FluxDisableGuidance"), model="flux-dev", engine=False),
    Row(WORDS, "ReferenceLatent", nothing, model="flux-dev", what="two references"),
    Row(WORDS, "FluxKontextMultiReferenceLatentMethod", kontext("index"), model="flux-dev", what="index", engine=False),
    Row(WORDS, "FluxKontextMultiReferenceLatentMethod", kontext("offset"), model="flux-dev", what="offset"),
    Row(WORDS, "LTXVConditioning", model="ltxv", what="frame rate",
        change=lambda nodes: both_sides(nodes, "LTXVConditioning", frame_rate=30.0)),
    Row(GUIDES, "LTXVAddGuide", guided_by((1, 0, 1.0)), model="ltxv", what="a picture"),
    Row(GUIDES, "LTXVAddGuide", guided_by((1, 0, 0.9), (9, -9, 0.5)), model="ltxv", what="a picture and a video, weaker"),
    Row(GUIDES, "LTXVAddGuide", guided_by((1, -1, 0.7)), model="ltx23", what="a picture at the end"),
    Row(GUIDES, "LTXVAddGuide", guided_by((9, 0, 1.0), (1, 8, 0.4)), model="ltx2", what="beside audio"),
    Row(GUIDES, "GetICLoRAParameters", guided_by((17, 0, 0.8), masked=True, ic_lora="ltxv-ic.safetensors"), model="ltxv", what="a smaller guide, masked"),
    Row(LATENTS, "SetLatentNoiseMask", masked_latent),
    Row(LATENTS, "LatentBatch", two_pictures),
    Row(LATENTS, "LatentUpscale", twice, what="second pass at another size"),
    *(Row(MODELS, "UNETLoader", nothing, model=name, what="stock workflow")
      for name in ("qwen-image", "flux2-klein-4b", "chroma", "wan21-i2v", "wan21-vace", "wan22-5b", "hunyuan-video")),
]  # fmt: skip


def both_sides(nodes: dict, kind: str, **inputs: object) -> None:
    """A node that takes and gives both conditionings."""
    sample = nodes["sample"]["inputs"]
    nodes["pair"] = node(kind, positive=sample["positive"], negative=sample["negative"], **inputs)
    sample.update(positive=["pair", 0], negative=["pair", 1])
