"""Options that meet: samplers and schedules that no other row has, guiders, several models in one graph, parts of conditioning, hooks, bypass loaders, Accelerate Model."""

from __future__ import annotations

from dataclasses import replace

from graphs import OWN_LOADER, Link, node
from node_rows import INPAINT, SD3, SD15, Change, Row, cfg_guider, guided, hooked, masked_latent, nothing, patched, sampled
from workflow_rows import VEGA, both, chained, control_file, lora, second_pass

GROUP = "options that meet"
FIVE = replace(SD15, steps=5)
FREE = replace(SD15, adapters=[])


def given_latent(nodes: dict, name: str, seed: int = 7, size: int = 8) -> Link:
    nodes[name] = node("TestLatent", seed=seed, channels=4, frames=0, height=size, width=size, first_frames=0)
    return [name, 0]


def advanced_sampler(sampler: dict, sigmas: dict, guider=cfg_guider) -> Change:
    """SamplerCustomAdvanced with these."""

    def change(nodes: dict) -> None:
        model = nodes["sample"]["inputs"]["model"]
        guided(guider, sampler)(nodes)
        nodes["sigmas"] = {**sigmas, "inputs": {**sigmas["inputs"], **({"model": model} if "model" in sigmas["inputs"] else {})}}

    return change


def cut_sigmas(kind: str, output: int, **inputs: object) -> Change:
    """A node between the schedule and the sampler."""

    def change(nodes: dict) -> None:
        nodes["cut"] = node(kind, sigmas=["sigmas", 0], **inputs)
        nodes["sample"]["inputs"]["sigmas"] = ["cut", output]

    return change


def nested(old: dict) -> dict:
    old["nodes"]["second"] = node("TestConditioning", seed=3, tokens=154, width=768, pooled=0)
    return node(
        "DualCFGGuider", model=old["model"], cond1=["second", 0], cond2=old["positive"], negative=old["negative"], cfg_conds=2.5,
        cfg_cond2_negative=4.0, style="nested",
    )  # fmt: skip


def basic(old: dict) -> dict:
    return node("BasicGuider", model=old["model"], conditioning=old["positive"])


def picture_to_picture(denoise: float) -> Change:
    def change(nodes: dict) -> None:
        nodes["sample"]["inputs"].update(latent_image=given_latent(nodes, "given"), denoise=denoise)

    return change


def second_model(nodes: dict, adapter: tuple[str, float] | None = ("kron.safetensors", -0.5)) -> Link:
    """Another checkpoint of the same structure, with another LoRA."""
    load = nodes["load"]
    nodes["load-other"] = {**load, "inputs": {**load["inputs"], "ckpt_name": "sd15_other.safetensors"}}
    if adapter is None:
        return ["load-other", 0]
    nodes["other-lora"] = lora(["load-other", 0], *adapter)
    return ["other-lora", 0]


def two_models(join: str, **inputs: object) -> Change:
    """A picture of each, brought together and drawn on by the second."""

    def change(nodes: dict) -> None:
        first = nodes["sample"]
        other = second_model(nodes)
        nodes["first"] = first
        nodes["of-other"] = node("KSampler", **{**first["inputs"], "model": other, "seed": 11})
        nodes["joined"] = node(join, **inputs)
        nodes["sample"] = node("KSampler", **{**first["inputs"], "model": other, "latent_image": ["joined", 0], "denoise": 0.5})

    return change


def structures_together(nodes: dict) -> None:
    """A picture of SD 1.5's class, drawn again by an SDXL class: two engines in one graph."""
    first = nodes["sample"]
    load = nodes["load"]
    nodes["load-vega"] = {**load, "inputs": {**load["inputs"], "ckpt_name": "vega_tiny.safetensors"}}
    nodes["vega-lora"] = lora(["load-vega", 0], "vega.safetensors", 0.7)
    for number, side in enumerate(("vega-pos", "vega-neg")):
        nodes[side] = node("TestConditioning", seed=1 + number, tokens=77, width=2048, pooled=1280)
    nodes["first"] = first
    nodes["sample"] = node(
        "KSampler",
        **{
            **first["inputs"],
            "model": ["vega-lora", 0],
            "positive": ["vega-pos", 0],
            "negative": ["vega-neg", 0],
            "latent_image": ["first", 0],
            "denoise": 0.6,
        },
    )


def merged_before(nodes: dict) -> None:
    """LoRAs on a merge: what comes behind it goes with it."""
    nodes["merged"] = node("ModelMergeSimple", model1=["load", 0], model2=second_model(nodes, None), ratio=0.6)
    nodes["lora0"]["inputs"]["model"] = ["merged", 0]


def merged_blocks(nodes: dict) -> None:
    sample = nodes["sample"]["inputs"]
    given = {"input": 0.2, "middle": 0.5, "out": 0.9}
    nodes["merged"] = node("ModelMergeBlocks", model1=sample["model"], model2=second_model(nodes), **given)
    sample["model"] = ["merged", 0]


def subtracted(nodes: dict) -> None:
    """What one model has beyond the other, added again."""
    sample = nodes["sample"]["inputs"]
    other = second_model(nodes, None)
    nodes["beyond"] = node("ModelMergeSubtract", model1=other, model2=["load", 0], multiplier=0.5)
    nodes["merged"] = node("ModelMergeAdd", model1=sample["model"], model2=["beyond", 0])
    sample["model"] = ["merged", 0]


def with_clip(name: str, model: float, clip: float) -> Change:
    """LoraLoader with both strengths; the tests' conditioning does not look at the CLIP."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["loader"] = node("CheckpointLoaderSimple", ckpt_name="sd15_tiny.safetensors")
        nodes["both"] = node(
            "LoraLoader", model=sample["model"], clip=["loader", 1], lora_name=name, strength_model=model, strength_clip=clip
        )
        sample["model"] = ["both", 0]

    return change


def bypassed(*adapters: tuple[str, float]) -> Change:
    def change(nodes: dict) -> None:
        for name, strength in adapters:
            sample, made = nodes["sample"]["inputs"], f"bypass{len(nodes)}"
            nodes[made] = node("LoraLoaderBypassModelOnly", model=sample["model"], lora_name=name, strength_model=strength)
            sample["model"] = [made, 0]

    return change


def parts_of_the_run(nodes: dict) -> None:
    """Three prompts, each for a part of the run and a part of the picture."""
    sample = nodes["sample"]["inputs"]
    nodes["left"] = node("SolidMask", value=1.0, width=32, height=64)
    nodes["canvas"] = node("SolidMask", value=0.1, width=64, height=64)
    nodes["mask"] = node("MaskComposite", destination=["canvas", 0], source=["left", 0], x=0, y=0, operation="add")
    nodes["second"] = node("TestConditioning", seed=3, tokens=154, width=768, pooled=0)
    nodes["masked"] = node("ConditioningSetMask", conditioning=["second", 0], mask=["mask", 0], strength=0.8, set_cond_area="mask bounds")
    nodes["early"] = node("ConditioningSetTimestepRange", conditioning=["masked", 0], start=0.0, end=0.35)
    nodes["late"] = node("ConditioningSetTimestepRange", conditioning=sample["positive"], start=0.3, end=1.0)
    nodes["weak"] = node("ConditioningSetAreaStrength", conditioning=["late", 0], strength=0.6)
    nodes["rest"] = node("ConditioningZeroOut", conditioning=["second", 0])
    nodes["one"] = node("ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["weak", 0])
    nodes["all"] = node("ConditioningCombine", conditioning_1=["one", 0], conditioning_2=["rest", 0])
    sample["positive"] = ["all", 0]


def masks_of_a_batch(nodes: dict) -> None:
    """Two pictures, each with a mask of its own, and noise by their numbers."""
    for number, value in enumerate((0.3, 0.9)):
        nodes[f"mask{number}"] = node("SolidMask", value=value, width=64, height=64)
        given_latent(nodes, f"given{number}", 7 + number)
        nodes[f"masked{number}"] = node("SetLatentNoiseMask", samples=[f"given{number}", 0], mask=[f"mask{number}", 0])
    nodes["batch"] = node("LatentBatch", samples1=["masked0", 0], samples2=["masked1", 0])
    nodes["masks"] = node("MaskToImage", mask=["mask0", 0])
    nodes["masks1"] = node("MaskToImage", mask=["mask1", 0])
    nodes["images"] = node("ImageBatch", image1=["masks", 0], image2=["masks1", 0])
    nodes["both-masks"] = node("ImageToMask", image=["images", 0], channel="red")
    nodes["masked"] = node("SetLatentNoiseMask", samples=["batch", 0], mask=["both-masks", 0])
    nodes["seeds"] = node("LatentBatchSeedBehavior", samples=["masked", 0], seed_behavior="fixed")
    nodes["sample"]["inputs"]["latent_image"] = ["seeds", 0]


def inpaint_by_vae(nodes: dict) -> None:
    nodes["vae"] = node("CheckpointLoaderSimple", ckpt_name="sd15_tiny.safetensors")
    nodes["mask"] = node("SolidMask", value=1.0, width=64, height=64)
    nodes["pixels"] = node("EmptyImage", width=64, height=64, batch_size=1, color=8388736)
    nodes["latent"] = node("VAEEncodeForInpaint", pixels=["pixels", 0], vae=["vae", 2], mask=["mask", 0], grow_mask_by=6)
    nodes["sample"]["inputs"]["latent_image"] = ["latent", 0]


def accelerated(behind: bool, more: Change = nothing) -> Change:
    """Accelerate Model on an ordinary MODEL, in front of the LoRAs or behind them; in ComfyUI's own graph nothing."""

    def change(nodes: dict) -> None:
        more(nodes)
        if nodes["load"]["class_type"] == OWN_LOADER:
            return
        nodes["load"] = node(OWN_LOADER, ckpt_name=nodes["load"]["inputs"]["ckpt_name"])
        taken = nodes["sample"]["inputs"] if behind else nodes["lora0"]["inputs"]
        nodes["accelerated"] = node("RefitAccelerateModel", model=taken["model"])
        taken["model"] = ["accelerated", 0]

    return change


def hooks_of_conditioning(kind: str, strength: float, **inputs: object) -> Change:
    """Hooks on the positive conditioning alone, with keyframes in the middle of the run."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["hook"] = node(kind, **inputs)
        nodes["keys"] = node(
            "CreateHookKeyframesInterpolated",
            strength_start=0.0,
            strength_end=strength,
            interpolation="linear",
            start_percent=0.2,
            end_percent=0.8,
            keyframes_count=3,
        )
        nodes["keyed"] = node("SetHookKeyframes", hooks=["hook", 0], hook_kf=["keys", 0])
        nodes["pair"] = node(
            "PairConditioningSetProperties", positive_NEW=sample["positive"], negative_NEW=sample["negative"], strength=1.0, set_cond_area="default",
            hooks=["keyed", 0],
        )  # fmt: skip
        sample.update(positive=["pair", 0], negative=["pair", 1])

    return change


def added_noise(nodes: dict) -> None:
    """Noise is added by a node, and the sampler adds none."""
    guided(cfg_guider)(nodes)
    given_latent(nodes, "given")
    nodes["half"] = node("SplitSigmasDenoise", sigmas=["sigmas", 0], denoise=0.6)
    nodes["noisy"] = node(
        "AddNoise", model=nodes["guider"]["inputs"]["model"], noise=["noise", 0], sigmas=["half", 1], latent_image=["given", 0]
    )
    nodes["none"] = node("DisableNoise")
    nodes["sample"]["inputs"].update(noise=["none", 0], sigmas=["half", 1], latent_image=["noisy", 0])


def control_for_one(nodes: dict) -> None:
    """A ControlNet by the oldest node, on the positive conditioning alone."""
    sample = nodes["sample"]["inputs"]
    nodes["net"] = node("ControlNetLoader", control_net_name="sd15_control.safetensors")
    nodes["hint"] = node("EmptyImage", width=96, height=80, batch_size=1, color=8388736)
    nodes["steered"] = node("ControlNetApply", conditioning=sample["positive"], control_net=["net", 0], image=["hint", 0], strength=0.6)
    sample["positive"] = ["steered", 0]


def by_structure(nodes: dict) -> None:
    """A LoRA that has the model take a second picture; it takes no references beside that."""
    sample = nodes["sample"]["inputs"]
    nodes["control-lora"] = lora(sample["model"], "flux-control.safetensors", 1.0)
    nodes["vae"] = node("VAELoader", vae_name="tae16.safetensors")
    nodes["pixels"] = node("EmptyImage", width=128, height=128, batch_size=1, color=8388736)
    nodes["seen"] = node(
        "InstructPixToPixConditioning", positive=["pos", 0], negative=sample["negative"], vae=["vae", 0], pixels=["pixels", 0]
    )
    sample.update(model=["control-lora", 0], positive=["seen", 0], negative=["seen", 1])


#: Sampler -> schedule; none of them in another row.
OTHERS = {
    "heunpp2": "sgm_uniform", "dpm_2": "karras", "dpm_2_ancestral": "exponential", "lms": "ddim_uniform", "dpm_fast": "simple", "ipndm": "beta", "ipndm_v": "normal",
    "euler_ancestral_cfg_pp": "kl_optimal", "dpmpp_2m_cfg_pp": "linear_quadratic", "res_multistep_ancestral_cfg_pp": "simple", "ddpm": "normal", "exp_heun_2_x0": "beta",
    "exp_heun_2_x0_sde": "karras", "seeds_3": "simple", "sa_solver_pece": "karras", "dpmpp_2m_sde_heun": "sgm_uniform", "gradient_estimation_cfg_pp": "beta",
}  # fmt: skip
SELECT = {name: node("KSamplerSelect", sampler_name=name) for name in ("heun", "dpmpp_2m", "uni_pc", "lms")}

MIXED = [
    *(
        Row(GROUP, "KSampler", sampled(sampler, scheduler), what=f"{sampler}, {scheduler}", choices=FIVE)
        for sampler, scheduler in OTHERS.items()
    ),
    Row(
        GROUP,
        "DualCFGGuider",
        advanced_sampler(SELECT["heun"], node("PolyexponentialScheduler", steps=4, sigma_max=12.0, sigma_min=0.05, rho=1.2), nested),
        what="nested, Polyexponential",
    ),
    Row(
        GROUP,
        "SamplerEulerAncestral",
        advanced_sampler(
            node("SamplerEulerAncestral", eta=0.4, s_noise=1.05), node("BetaSamplingScheduler", model=None, steps=4, alpha=0.5, beta=0.7)
        ),
        what="Beta",
    ),
    Row(
        GROUP,
        "SamplerLMS",
        advanced_sampler(node("SamplerLMS", order=3), node("ExponentialScheduler", steps=5, sigma_max=14.0, sigma_min=0.05)),
        what="Exponential",
    ),
    Row(
        GROUP,
        "SamplerDPMAdaptative",
        advanced_sampler(
            node("SamplerDPMAdaptative", rtol=0.2),
            node("LaplaceScheduler", steps=4, sigma_max=14.0, sigma_min=0.03, mu=0.0, beta=0.5),
            basic,
        ),
        what="Laplace, BasicGuider",
    ),
    Row(
        GROUP,
        "SamplerER_SDE",
        advanced_sampler(
            node("SamplerER_SDE", solver_type="ER-SDE", max_stage=2, eta=0.8, s_noise=1.0),
            node("KarrasScheduler", steps=4, sigma_max=14.0, sigma_min=0.03, rho=5.0),
        ),
    ),
    Row(
        GROUP,
        "SamplerDPMPP_2S_Ancestral",
        advanced_sampler(
            node("SamplerDPMPP_2S_Ancestral", eta=0.7, s_noise=1.0),
            node("BasicScheduler", model=None, scheduler="simple", steps=4, denoise=0.7),
        ),
    ),
    Row(
        GROUP,
        "SplitSigmasDenoise",
        both(
            advanced_sampler(SELECT["dpmpp_2m"], node("BasicScheduler", model=None, scheduler="beta", steps=6, denoise=1.0)),
            cut_sigmas("SplitSigmasDenoise", 1, denoise=0.5),
        ),
        what="the last half alone",
    ),
    Row(
        GROUP,
        "SetFirstSigma",
        both(
            advanced_sampler(SELECT["uni_pc"], node("BasicScheduler", model=None, scheduler="normal", steps=5, denoise=1.0)),
            cut_sigmas("SetFirstSigma", 0, sigma=9.0),
        ),
    ),
    Row(
        GROUP,
        "ExtendIntermediateSigmas",
        both(
            advanced_sampler(SELECT["lms"], node("BasicScheduler", model=None, scheduler="normal", steps=3, denoise=1.0)),
            cut_sigmas("ExtendIntermediateSigmas", 0, steps=2, start_at_sigma=-1.0, end_at_sigma=2.0, spacing="cosine"),
        ),
    ),
    Row(GROUP, "ManualSigmas", advanced_sampler(SELECT["heun"], node("ManualSigmas", sigmas="13.5, 6.0, 2.5, 0.8, 0"))),
    Row(GROUP, "AddNoise", added_noise, what="SplitSigmasDenoise, DisableNoise"),
    Row(GROUP, "KSampler", picture_to_picture(0.35), what="a picture, denoise 0.35", choices=FIVE),
    Row(GROUP, "KSampler", both(picture_to_picture(0.7), sampled("dpmpp_2m_sde", "karras")), what="SDXL class, denoise 0.7", choices=VEGA),
    Row(GROUP, "KSampler", lambda nodes: nodes["sample"]["inputs"].update(cfg=1.0), what="CFG 1, of three", choices=replace(SD15, batch=3)),
    Row(GROUP, "KSampler", nothing, what="odd sizes", choices=replace(SD15, size=88)),
    Row(GROUP, "KSampler", nothing, what="SD3, odd sizes", choices=replace(SD3, size=104)),
    Row(GROUP, "KSampler", nothing, what="long words of two", choices=replace(SD15, tokens=231, batch=2)),
    Row(
        GROUP,
        "LatentComposite",
        two_models("LatentComposite", samples_to=["first", 0], samples_from=["of-other", 0], x=24, y=8, feather=16),
        what="two checkpoints of one structure",
    ),
    Row(
        GROUP,
        "LatentBlend",
        two_models("LatentBlend", samples1=["first", 0], samples2=["of-other", 0], blend_factor=0.4),
        what="two checkpoints of one structure",
    ),
    Row(
        GROUP,
        "LatentInterpolate",
        two_models("LatentInterpolate", samples1=["first", 0], samples2=["of-other", 0], ratio=0.3),
        what="two checkpoints of one structure",
    ),
    Row(GROUP, "KSampler", structures_together, what="two structures in one graph"),
    Row(GROUP, "ModelMergeSimple", merged_before, what="LoRAs behind it", engine=False),
    Row(GROUP, "ModelMergeBlocks", merged_blocks, engine=False),
    Row(GROUP, "ModelMergeSubtract", subtracted, what="ModelMergeAdd", engine=False),
    Row(GROUP, "LoraLoader", with_clip("style.safetensors", 0.0, 1.0), what="CLIP alone"),
    Row(GROUP, "LoraLoader", with_clip("kron.safetensors", -0.8, 0.5), what="a negative strength"),
    Row(
        GROUP,
        "LoraLoaderModelOnly",
        chained(
            ("kron.safetensors", 0.4),
            ("kron.safetensors", 0.4),
            ("full.safetensors", -0.3),
            ("sub dir/ünï style.safetensors", 0.5),
            ("kron.safetensors", -0.8),
        ),
        what="one three times, in sum nothing",
        choices=FREE,
    ),
    Row(
        GROUP,
        "LoraLoaderModelOnly",
        chained(("style.safetensors", 1.7), ("style-twin.safetensors", -1.7)),
        what="twins that differ in one layer",
        choices=FREE,
    ),
    Row(GROUP, "LoraLoaderModelOnly", chained(("style.safetensors", 0.0)), what="strength 0 alone", choices=FREE),
    Row(GROUP, "LoraLoaderBypassModelOnly", bypassed(("style.safetensors", 0.6), ("kron.safetensors", -0.5)), what="two, one negative"),
    Row(
        GROUP,
        "LoraLoaderBypassModelOnly",
        both(bypassed(("style.safetensors", 0.5)), chained(("hada.safetensors", 0.4)), bypassed(("style.safetensors", -0.2))),
        what="twice, with an ordinary one between",
        choices=FREE,
    ),
    Row(GROUP, "ConditioningSetMask", parts_of_the_run, what="three prompts, parts of run and picture", choices=FIVE),
    Row(GROUP, "LatentBatchSeedBehavior", masks_of_a_batch, what="a mask for each of two"),
    Row(GROUP, "VAEEncodeForInpaint", inpaint_by_vae),
    Row(
        GROUP,
        "DifferentialDiffusion",
        both(masks_of_a_batch, patched("DifferentialDiffusion", strength=0.7)),
        what="a mask for each of two",
    ),
    Row(
        GROUP, "KSampler", both(second_pass(model=["load", 0], cfg=2.0), sampled("lcm", "sgm_uniform")), what="a second pass without LoRAs"
    ),
    Row(GROUP, "SetLatentNoiseMask", masked_latent, what="inpaint model", choices=INPAINT),
    Row(GROUP, "ControlNetApply", control_for_one, what="the positive alone"),
    Row(
        GROUP,
        "SetUnionControlNetType",
        both(control_file("sd15_control.safetensors"), sampled("dpmpp_2m", "karras"), patched("RescaleCFG", multiplier=0.5)),
        what="RescaleCFG, of two",
        choices=replace(SD15, batch=2),
    ),
    Row(
        GROUP,
        "CFGNorm",
        both(patched("CFGNorm", strength=0.8), patched("Mahiro"), patched("RescaleCFG", multiplier=0.3)),
        what="Mahiro, RescaleCFG",
    ),
    Row(GROUP, "RefitAccelerateModel", accelerated(behind=True), what="behind LoRAs"),
    Row(GROUP, "RefitAccelerateModel", accelerated(behind=False), what="in front of LoRAs"),
    Row(
        GROUP,
        "RefitAccelerateModel",
        accelerated(behind=True, more=chained(("kron.safetensors", -0.5), ("style.safetensors", 0.3))),
        what="behind three LoRAs, one twice",
    ),
    Row(GROUP, "RefitAccelerateModel", accelerated(behind=True, more=merged_before), what="behind a merge", engine=False),
    Row(
        GROUP,
        "RefitAccelerateModel",
        accelerated(behind=True, more=patched("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)),
        what="FreeU",
        engine=False,
    ),
    Row(
        GROUP,
        "RefitAccelerateModel",
        accelerated(
            behind=False, more=hooks_of_conditioning("CreateHookLoraModelOnly", 0.8, lora_name="kron.safetensors", strength_model=0.7)
        ),
        what="hooks",
        engine=False,
    ),
    Row(
        GROUP,
        "CreateHookKeyframesInterpolated",
        hooks_of_conditioning("CreateHookLoraModelOnly", 0.9, lora_name="kron.safetensors", strength_model=0.6),
        what="a LoRA",
        engine=False,
    ),
    Row(
        GROUP,
        "CreateHookKeyframesInterpolated",
        hooks_of_conditioning("CreateHookModelAsLoraModelOnly", 0.5, ckpt_name="sd15_other.safetensors", strength_model=0.4),
        what="a model",
        engine=False,
    ),
    Row(
        GROUP,
        "CreateHookLoraModelOnly",
        both(hooked("CreateHookLoraModelOnly", lora_name="style.safetensors", strength_model=-0.5), chained(("kron.safetensors", 0.4))),
        what="negative, beside LoRAs",
        engine=False,
    ),
    Row(GROUP, "InstructPixToPixConditioning", by_structure, model="flux-dev", what="a LoRA that widens the model", engine=False),
]
