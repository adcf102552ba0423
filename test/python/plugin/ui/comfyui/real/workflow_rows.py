"""Whole workflows as artists build them: several samplers, split schedules, LoRAs that change on the way. Inputs that a node does not say here are its defaults."""

from __future__ import annotations

from dataclasses import replace

from graphs import Choices, Link, node
from node_rows import INPAINT, SD3, SD15, Change, Row, conditioned, controlled, differential, guided, masked_latent, patched, sampled

GROUP = "whole workflows"
VEGA = Choices(checkpoint="vega_tiny.safetensors", context=2048, pooled=1280, size=128, steps=3, adapters=[("vega.safetensors", 0.7)])


def chained(*adapters: tuple[str, float]) -> Change:
    """More LoRAs behind the first one."""

    def change(nodes: dict) -> None:
        for number, (name, strength) in enumerate(adapters):
            sample = nodes["sample"]["inputs"]
            nodes[f"more{number}"] = lora(sample["model"], name, strength)
            sample["model"] = [f"more{number}", 0]

    return change


def lora(model: Link, name: str, strength: float) -> dict:
    return node("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=strength)


def both(*changes: Change) -> Change:
    def change(nodes: dict) -> None:
        for one in changes:
            one(nodes)

    return change


def second_pass(latent: Link = ("first", 0), **changes: object) -> Change:
    """Draws again what the first pass made, or `latent` of it, with these inputs."""

    def change(nodes: dict) -> None:
        nodes["first"] = nodes["sample"]
        nodes["sample"] = node("KSampler", **{**nodes["first"]["inputs"], "latent_image": list(latent), "denoise": 0.6, **changes})

    return change


def larger_with_another_lora(nodes: dict) -> None:
    nodes["bigger"] = node("LatentUpscaleBy", samples=["first", 0], upscale_method="bicubic", scale_by=1.5)
    nodes["detail"] = lora(["load", 0], "kron.safetensors", -0.4)
    second_pass(("bigger", 0), model=["detail", 0], sampler_name="dpmpp_2m", scheduler="karras")(nodes)


def freeu_in_the_second_pass(nodes: dict) -> None:
    """The status is the second pass's."""
    second_pass()(nodes)
    nodes["freeu"] = node("FreeU_V2", model=nodes["sample"]["inputs"]["model"], b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    nodes["sample"]["inputs"]["model"] = ["freeu", 0]


def advanced_in_two(nodes: dict) -> None:
    """The noise that the first leaves is the second's, which has another LoRA."""
    old = nodes["sample"]["inputs"]
    given = {name: old[name] for name in ("cfg", "sampler_name", "scheduler", "positive", "negative")} | {
        "noise_seed": old["seed"],
        "steps": 6,
    }
    nodes["first"] = node(
        "KSamplerAdvanced", model=old["model"], latent_image=old["latent_image"], add_noise="enable", start_at_step=0, end_at_step=3,
        return_with_leftover_noise="enable", **given,
    )  # fmt: skip
    nodes["late"] = lora(old["model"], "hada.safetensors", 0.8)
    nodes["sample"] = node(
        "KSamplerAdvanced", model=["late", 0], latent_image=["first", 0], add_noise="disable", start_at_step=3, end_at_step=10000,
        return_with_leftover_noise="disable", **given,
    )  # fmt: skip


def split_sigmas(nodes: dict) -> None:
    guided(lambda old: node("CFGGuider", **{name: old[name] for name in ("model", "positive", "negative", "cfg")}))(nodes)
    nodes["sigmas"]["inputs"]["steps"] = 6
    nodes["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=3)
    high = nodes["sample"]
    model = nodes["guider"]["inputs"]["model"]
    nodes["late"] = lora(model, "kron.safetensors", 0.5)
    nodes["late-guider"] = node("CFGGuider", **{**nodes["guider"]["inputs"], "model": ["late", 0], "cfg": 2.0})
    nodes["no-noise"] = node("DisableNoise")
    high["inputs"]["sigmas"] = ["split", 0]
    nodes["high"] = high
    nodes["sample"] = node(
        "SamplerCustomAdvanced", **{**high["inputs"], "noise": ["no-noise", 0], "guider": ["late-guider", 0], "sigmas": ["split", 1], "latent_image": ["high", 0]}
    )  # fmt: skip


def custom(sampler: dict, sigmas: dict) -> Change:
    def change(nodes: dict) -> None:
        old = nodes["sample"]["inputs"]
        nodes["sampler"], nodes["sigmas"] = sampler, sigmas
        if "model" in sigmas["inputs"]:
            nodes["sigmas"] = {**sigmas, "inputs": {**sigmas["inputs"], "model": old["model"]}}
        given = {name: old[name] for name in ("model", "cfg", "positive", "negative", "latent_image")}
        nodes["sample"] = node(
            "SamplerCustom", add_noise=True, noise_seed=old["seed"], sampler=["sampler", 0], sigmas=["sigmas", 0], **given
        )

    return change


def unsampled(nodes: dict) -> None:
    """A latent is taken back to noise along the flipped schedule, and drawn again from there."""
    old = nodes["sample"]["inputs"]
    nodes["given"] = node("TestLatent", seed=7, channels=4, frames=0, height=8, width=8, first_frames=0)
    custom(node("KSamplerSelect", sampler_name="euler"), node("BasicScheduler", model=None, scheduler="normal", steps=4, denoise=1.0))(
        nodes
    )
    nodes["flipped"] = node("FlipSigmas", sigmas=["sigmas", 0])
    back = {**nodes["sample"]["inputs"], "add_noise": False, "cfg": 1.0, "latent_image": ["given", 0], "sigmas": ["flipped", 0]}
    nodes["back"] = node("SamplerCustom", **back)
    nodes["sample"]["inputs"] |= {"add_noise": False, "latent_image": ["back", 0], "cfg": old["cfg"]}


def one_of_three(nodes: dict) -> None:
    """The noise of a picture out of a batch is the one that it had there."""
    nodes["empty"]["inputs"]["batch_size"] = 3
    nodes["picked"] = node("LatentFromBatch", samples=["first", 0], batch_index=1, length=1)
    second_pass(("picked", 0))(nodes)


def repeated(nodes: dict) -> None:
    masked_latent(nodes)
    nodes["repeated"] = node("RepeatLatentBatch", samples=["masked", 0], amount=3)
    nodes["sample"]["inputs"]["latent_image"] = ["repeated", 0]


def words_of_every_kind(nodes: dict) -> None:
    """Two areas, one of them for the first half of the run, a mask on the negative, and a ControlNet under one area."""
    sample = nodes["sample"]["inputs"]
    nodes["area"] = node(
        "ConditioningSetAreaPercentage", conditioning=sample["positive"], width=0.5, height=1.0, x=0.0, y=0.0, strength=0.9
    )
    nodes["second"] = node("TestConditioning", seed=3, tokens=154, width=768, pooled=0)
    nodes["other-area"] = node(
        "ConditioningSetAreaPercentage", conditioning=["second", 0], width=0.5, height=1.0, x=0.5, y=0.0, strength=0.7
    )
    nodes["early"] = node("ConditioningSetTimestepRange", conditioning=["other-area", 0], start=0.0, end=0.5)
    nodes["steered"] = node("TestControl", conditioning=["area", 0], strength=0.5)
    nodes["both"] = node("ConditioningCombine", conditioning_1=["steered", 0], conditioning_2=["early", 0])
    nodes["mask"] = node("SolidMask", value=0.8, width=64, height=64)
    nodes["not-here"] = node(
        "ConditioningSetMask", conditioning=sample["negative"], mask=["mask", 0], strength=0.6, set_cond_area="default"
    )
    sample.update(positive=["both", 0], negative=["not-here", 0])


def control_file(name: str) -> Change:
    """A ControlNet from a file, for all but the last third of the run."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes["net"] = node("ControlNetLoader", control_net_name=name)
        nodes["kind"] = node("SetUnionControlNetType", control_net=["net", 0], type="auto")
        nodes["hint"] = node("EmptyImage", width=64, height=64, batch_size=1, color=8388736)
        nodes["steered"] = node(
            "ControlNetApplyAdvanced", positive=sample["positive"], negative=sample["negative"], control_net=["kind", 0], image=["hint", 0], strength=0.8,
            start_percent=0.0, end_percent=0.7,
        )  # fmt: skip
        sample.update(positive=["steered", 0], negative=["steered", 1])

    return change


def control_by_latent(name: str, start: float = 0.0, end: float = 1.0, strength: float = 0.9) -> Change:
    """A ControlNet that sees its picture as a latent, from a file."""

    def change(nodes: dict) -> None:
        sample = nodes["sample"]["inputs"]
        nodes[name] = node("ControlNetLoader", control_net_name=f"{name}.safetensors")
        nodes["vae"] = node("VAELoader", vae_name="tae16.safetensors")
        nodes["hint"] = node("EmptyImage", width=128, height=128, batch_size=1, color=8388736)
        nodes[f"by {name}"] = node(
            "ControlNetApplySD3", positive=sample["positive"], negative=sample["negative"], control_net=[name, 0], vae=["vae", 0], image=["hint", 0],
            strength=strength, start_percent=start, end_percent=end,
        )  # fmt: skip
        sample.update(positive=[f"by {name}", 0], negative=[f"by {name}", 1])

    return change


def two_controls(nodes: dict) -> None:
    controlled(nodes)
    sample = nodes["sample"]["inputs"]
    nodes["range"] = node("ConditioningSetTimestepRange", conditioning=sample["positive"], start=0.2, end=0.9)
    sample["positive"] = ["range", 0]


def rescaled(nodes: dict) -> None:
    sample = nodes["sample"]["inputs"]
    nodes["rescaled"] = node("RescaleCFG", model=sample["model"], multiplier=0.7)
    sample["model"] = ["rescaled", 0]


VARIED = {
    "dpmpp_3m_sde_gpu": "exponential", "uni_pc_bh2": "beta", "lcm": "sgm_uniform", "ddim": "ddim_uniform", "res_multistep": "kl_optimal",
    "dpm_adaptive": "normal", "er_sde": "linear_quadratic", "sa_solver": "simple", "seeds_2": "karras", "deis": "normal",
    "gradient_estimation": "simple", "dpmpp_2s_ancestral_cfg_pp": "karras",
}  # fmt: skip
SELECT = node("KSamplerSelect", sampler_name="dpmpp_2m")


WORKFLOWS = [
    *(Row(GROUP, "KSampler", sampled(sampler, scheduler), what=f"{sampler}, {scheduler}", choices=replace(SD15, steps=5)) for sampler, scheduler in VARIED.items()),
    Row(GROUP, "AlignYourStepsScheduler", custom(SELECT, node("AlignYourStepsScheduler", model_type="SD1", steps=6, denoise=1.0))),
    Row(GROUP, "GITSScheduler", custom(SELECT, node("GITSScheduler", coeff=1.2, steps=4, denoise=1.0))),
    Row(GROUP, "SamplerLCM", custom(node("SamplerLCM"), node("SDTurboScheduler", model=None, steps=3, denoise=1.0)), what="SDTurboScheduler"),
    Row(GROUP, "SamplerDPMPP_3M_SDE", custom(node("SamplerDPMPP_3M_SDE", noise_device="gpu"), node("VPScheduler", steps=4)), what="VPScheduler"),
    Row(GROUP, "FlipSigmas", unsampled, what="back to noise and again"),
    Row(GROUP, "SplitSigmas", split_sigmas, what="another LoRA and CFG for the second half"),
    Row(GROUP, "KSamplerAdvanced", advanced_in_two, what="another LoRA for the second half"),
    Row(GROUP, "LatentUpscaleBy", larger_with_another_lora, what="second pass with another LoRA"),
    Row(GROUP, "LatentFromBatch", one_of_three, what="second pass of one of three"),
    Row(GROUP, "RepeatLatentBatch", repeated, what="masked, three times"),
    Row(GROUP, "LoraLoaderModelOnly", chained(("kron.safetensors", -0.6), ("hada.safetensors", 0.0), ("style.safetensors", 0.7)),
        what="negative, none, the same again"),
    Row(GROUP, "LoraLoaderModelOnly", chained(("style.safetensors", -0.7)), what="taken back"),
    Row(GROUP, "RescaleCFG", both(patched("ModelSamplingDiscrete", sampling="v_prediction", zsnr=True), rescaled),
        what="v_prediction, zsnr"),
    Row(GROUP, "DifferentialDiffusion", both(differential, chained(("kron.safetensors", 0.5))), choices=INPAINT, what="inpaint model"),
    Row(GROUP, "ConditioningCombine", words_of_every_kind, what="areas, times, a mask, a ControlNet"),
    Row(GROUP, "ControlNetApplyAdvanced", two_controls, what="part of the run"),
    Row(GROUP, "SetUnionControlNetType", control_file("sd15_control.safetensors"), what="a ControlNet's file"),
    Row(GROUP, "ControlNetLoader", control_file("sd15_control_lora.safetensors"), what="a control LoRA", engine=False),
    Row(GROUP, "ControlNetApplySD3", control_by_latent("sd3_instantx"), choices=SD3, what="InstantX's form"),
    Row(GROUP, "ControlNetApplySD3", control_by_latent("sd3_stability"), choices=SD3, what="Stability's form, which takes weights of the model"),
    Row(GROUP, "ControlNetApplySD3", both(control_by_latent("sd3_instantx", end=0.6), control_by_latent("sd3_stability", 0.3)), choices=SD3,
        what="both, each for a part of the run"),
    Row(GROUP, "ControlNetApplySD3", control_by_latent("sd3_stability"), choices=replace(SD3, adapters=[("sd3-words.safetensors", 0.7)]),
        what="a LoRA in the weights that it takes", engine=False),
    Row(GROUP, "ConditioningAverage", both(conditioned("ConditioningAverage", "conditioning_to", conditioning_from=["second", 0], conditioning_to_strength=0.4),
                                           sampled("dpmpp_sde", "karras")), what="dpmpp_sde"),
    Row(GROUP, "KSampler", sampled("dpmpp_2m_sde", "karras"), choices=VEGA, what="SDXL class"),
    Row(GROUP, "ModelSamplingSD3", both(patched("ModelSamplingSD3", shift=5.0), sampled("dpmpp_2m", "sgm_uniform")), choices=SD3, what="SD3, dpmpp_2m"),
    Row(GROUP, "FreeU_V2", freeu_in_the_second_pass, what="in the second pass only", engine=False, before=True),
]  # fmt: skip
