"""Families that the torch host serves without a graph, in a real ComfyUI: the stock workflow of a file in diffusion_models, served by the engine.

The files are narrow relatives with the names of the real ones; a node of the tests tells ComfyUI's detection their widths.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfy_run import Run, rms
from graphs import OWN_LOADER, Choices, graph, node
from graphs import loader as model_loader
from narrow_models import comfyui_with, torch_sidecar, write_narrow
from refit_sidecar_plugin.client import SidecarClient


def video(nodes, link):
    nodes["empty"] = node("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)
    return link


def latent(**sizes):
    """A latent of these sizes in place of the empty picture."""

    def change(nodes, link):
        nodes["empty"] = node("TestLatent", **{"seed": 7, "frames": 0, "first_frames": 0, **sizes})
        return link

    return change


def references(*sizes):
    """Reference latents of these heights and widths beside the words."""

    def change(nodes, link):
        for number, (height, width) in enumerate(sizes):
            nodes[f"picture{number}"] = node(
                "TestLatent", seed=20 + number, channels=16, frames=0, height=height, width=width, first_frames=0
            )
            nodes[f"reference{number}"] = node("ReferenceLatent", conditioning=link, latent=[f"picture{number}", 0])
            link = [f"reference{number}", 0]
        return link

    return change


def first_frame(**seen):
    """A first picture in both conditionings."""

    def change(nodes, link):
        nodes["first"] = node("TestLatent", seed=8, channels=16, frames=2, height=8, width=8, first_frames=0)
        nodes["plain-neg"] = nodes["neg"]
        given = {"latent": ["first", 0], "image_tokens": 0, "image_width": 0, **seen}
        nodes["neg"] = node("TestFirstFrame", conditioning=["plain-neg", 0], **given)
        nodes["seen-pos"] = node("TestFirstFrame", conditioning=link, **given)
        return ["seen-pos", 0]

    return change


def masked(seen):
    """A mask in both conditionings: so many words are looked at."""

    def change(nodes, link):
        for name in ("pos", "neg"):
            nodes[name]["inputs"]["seen"] = seen
        return link

    return change


def more_layers(count):
    """So many layers of another encoder beside both conditionings."""

    def change(nodes, link):
        for name in ("pos", "neg"):
            nodes[name]["inputs"]["layers"] = count
        return link

    return change


def second_words(*tokens):
    """Numbers of another encoder's tokens beside both conditionings, so many each."""

    def change(nodes, link):
        for name, count in zip(("pos", "neg"), tokens, strict=True):
            nodes[name]["inputs"]["t5_tokens"] = count
        return link

    return change


def control_video(nodes, link):
    """A control video in both conditionings."""
    given = {"frames": 2, "height": 8, "width": 8, "strength": 0.7}
    nodes["plain-neg"] = nodes["neg"]
    nodes["neg"] = node("TestControlVideo", conditioning=["plain-neg", 0], **given)
    nodes["controlled"] = node("TestControlVideo", conditioning=link, **given)
    return ["controlled", 0]


def audio_beside(video, **sizes):
    """A video's latent with an audio's of these sizes, which a model makes in one run."""

    def change(nodes, link):
        link = video(nodes, link)
        nodes["video"] = nodes["empty"]
        nodes["audio"] = node("TestLatent", seed=9, frames=0, first_frames=0, **sizes)
        nodes["empty"] = node("LTXVConcatAVLatent", video_latent=["video", 0], audio_latent=["audio", 0])
        return link

    return change


def unprocessed(nodes, link):
    """Words that the model makes its own of, as LTX-2's text encoder gives them."""
    for name in ("pos", "neg"):
        nodes[name]["inputs"]["unprocessed"] = True
    return link


FILES = Choices(folder="diffusion_models", channels=16, context=40, tokens=20, size=128)
#: Structure -> what its workflow gives: channels of the latent, width and number of words, pixels, what stands beside them.
WORKFLOWS = {
    "z-image-comfyui": replace(FILES, tokens=37),
    "qwen-image": FILES,
    "flux2-klein-4b": FILES,
    "flux2-dev": FILES,
    "krea2": replace(FILES, context=12 * 256),
    "lumina2": replace(FILES, context=288),
    "flux-dev": replace(FILES, context=48, pooled=40, positive=references((8, 12), (6, 8))),
    "chroma": replace(FILES, context=48),
    "anima": replace(FILES, context=64, positive=second_words(9, 7)),
    "ltxv": replace(FILES, context=48, latent=latent(channels=128, frames=3, height=4, width=6, first_frames=1), positive=masked(13)),
    "ltx2": replace(
        FILES,
        context=128,
        latent=audio_beside(latent(channels=128, frames=3, height=4, width=6, first_frames=1), channels=8, height=5, width=16),
        positive=unprocessed,
    ),
    # Of video alone, words ready.
    "ltx23": replace(FILES, context=256 + 128, latent=latent(channels=128, frames=3, height=4, width=6)),
    "minimax-h3": replace(
        FILES, context=48, latent=audio_beside(latent(channels=24, frames=3, height=6, width=8), channels=32, height=2, width=5)
    ),
    "hunyuan-video": replace(FILES, context=48, pooled=40, latent=video),
    "hunyuan-video-1.5": replace(FILES, context=48, pooled=40, latent=latent(channels=32, frames=2, height=4, width=6, first_frames=0)),
    "kandinsky5": replace(FILES, context=256, pooled=40, latent=video),
    "ernie-image": replace(FILES, latent=latent(channels=128, frames=0, height=6, width=8)),
    "hidream": replace(FILES, context=48, pooled=40, positive=more_layers(4)),
    "wan21-t2v": replace(FILES, context=48, latent=video),
    "wan21-i2v": replace(FILES, context=48, latent=video, positive=first_frame(image_tokens=7, image_width=1280)),
    "wan21-vace": replace(FILES, context=48, latent=video, positive=control_video),
    "wan22-a14b": replace(FILES, context=48, latent=video, positive=first_frame()),
    "wan22-5b": replace(FILES, context=48, latent=latent(channels=48, frames=3, height=4, width=6, first_frames=1)),
}
PAIR = ("wan22-a14b", "wan22-a14b-low")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return write_narrow(tmp_path_factory.mktemp("families"), {*WORKFLOWS, *PAIR})


@pytest.fixture(scope="module")
def own_sidecar(models):
    with torch_sidecar(models) as made:
        yield made


@pytest.fixture(scope="module")
def server(own_sidecar):
    with comfyui_with(own_sidecar) as made:
        yield made


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_stock_workflow_with_a_lora_is_served_by_the_engine(server, tmp_path, name):
    detection = (Path(os.environ["COMFYUI_DIR"]) / "comfy" / "model_detection.py").read_text(encoding="utf-8")
    if name.startswith("z-image") and "z_image" not in detection:
        pytest.skip("this ComfyUI is older than Z-Image, and takes its file for Lumina 2")
    run, plain = Run(server, tmp_path), replace(WORKFLOWS[name], checkpoint=f"{name}.safetensors")
    with_adapter = replace(plain, adapters=[(f"{name}-1.safetensors", 0.8)])
    own_base, base = run.both(plain)
    own, served = run.both(with_adapter)
    effect = rms(own - own_base)
    assert effect > 0 and torch.isfinite(own).all()
    assert rms(base - own_base) < 0.01 * effect
    assert rms(served - own) < 0.01 * effect
    assert torch.equal(run(replace(plain, loader="RefitLoadEngine", seed=plain.seed)), base)


def pair(out: Path, loader: str, adapters: bool) -> dict:
    """Two steps on the model for much noise, two on the one for little, each with a LoRA of its own."""
    plain = replace(WORKFLOWS[PAIR[0]], folder="diffusion_models", loader=loader, checkpoint=f"{PAIR[0]}.safetensors")
    nodes = graph(out, plain)
    sampler = nodes.pop("sample")["inputs"]
    for number, name in enumerate(PAIR):
        nodes[f"load{number}"] = model_loader(replace(plain, checkpoint=f"{name}.safetensors"))
        model = [f"load{number}", 0]
        if adapters:
            nodes[f"lora{number}"] = node("LoraLoaderModelOnly", model=model, lora_name=f"{name}-1.safetensors", strength_model=0.8)
            model = [f"lora{number}", 0]
        nodes[f"sample{number}"] = node(
            "KSamplerAdvanced", model=model, add_noise="disable" if number else "enable", noise_seed=5, steps=4, cfg=5.0, sampler_name="euler",
            scheduler="normal", positive=sampler["positive"], negative=sampler["negative"], latent_image=["sample0", 0] if number else ["empty", 0],
            start_at_step=2 * number, end_at_step=2 * (number + 1), return_with_leftover_noise="disable" if number else "enable",
        )  # fmt: skip
    for name in ("save", "status"):
        inputs = nodes[name]["inputs"]
        nodes[name]["inputs"] = {key: ["sample1", 0] if value == ["sample", 0] else value for key, value in inputs.items()}
    del nodes["load"]
    return nodes


def test_the_pair_of_models_of_one_structure_is_two_states_of_one_engine(server, own_sidecar, tmp_path):
    run = Run(server, tmp_path)

    def made(loader: str, adapters: bool) -> torch.Tensor:
        file = run.next_file()
        run.outputs = server.prompt(pair(file, loader, adapters), run.PATIENCE_S)["outputs"]
        return torch.load(file)

    own_base, own = made(OWN_LOADER, False), made(OWN_LOADER, True)
    base = made("RefitLoadEngine", False)
    run.assert_served()
    client = SidecarClient("test", "0", data_dir=own_sidecar.data)
    try:
        before = client.call("status", {}).result["totals"]
        served = made("RefitLoadEngine", True)
        run.assert_served()
        after = client.call("status", {}).result["totals"]
    finally:
        client.close()
    assert rms(served - own) < 0.01 * rms(own - own_base)
    assert torch.equal(made("RefitLoadEngine", False), base)
    assert after["engineBuilds"] == before["engineBuilds"] and after["refits"] >= before["refits"] + 2
