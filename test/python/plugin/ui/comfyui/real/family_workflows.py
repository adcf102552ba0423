"""What the stock workflow of each family's file gives: latent, words, what stands beside them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from graphs import Choices, node


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


def animated(nodes, link):
    """A first picture, what a vision encoder sees in it, a pose and a face in both conditionings."""
    link = first_frame(image_tokens=7, image_width=1280)(nodes, link)
    given = {"frames": 1, "height": 8, "width": 8, "face_frames": 5, "face_size": 16}
    nodes["seen-neg"] = nodes["neg"]
    nodes["neg"] = node("TestAnimated", conditioning=["seen-neg", 0], dark=True, **given)
    nodes["animated"] = node("TestAnimated", conditioning=link, dark=False, **given)
    return ["animated", 0]


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
    "lumina2": replace(FILES, context=288, positive=masked(20)),
    "flux-dev": replace(FILES, context=48, pooled=40, positive=references((8, 12), (6, 8))),
    "chroma": replace(FILES, context=48, pooled=40),
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
    "kandinsky5-image": replace(FILES, context=48, pooled=40),
    "ernie-image": replace(FILES, latent=latent(channels=128, frames=0, height=6, width=8)),
    "hidream": replace(FILES, context=48, pooled=40, positive=more_layers(4)),
    "wan21-t2v": replace(FILES, context=48, latent=video),
    "wan21-i2v": replace(FILES, context=48, latent=video, positive=first_frame(image_tokens=7, image_width=1280)),
    "wan21-vace": replace(FILES, context=48, latent=video, positive=control_video),
    "wan22-animate": replace(FILES, context=48, latent=video, positive=animated),
    "wan22-a14b": replace(FILES, context=48, latent=video, positive=first_frame()),
    "wan22-5b": replace(FILES, context=48, latent=latent(channels=48, frames=3, height=4, width=6, first_frames=1)),
}


#: Start of a structure's name -> what ComfyUI's detection of it says; versions before that model do not say it, and some take its file for another's.
NEWER = {
    "z-image": "z_image",
    "flux2": "flux2",
    "krea2": "krea2",
    "anima": '"anima"',
    "ltx2": "ltxav",
    "minimax": "minimax",
    "hunyuan-video-1.5": "vision_in_dim",
    "kandinsky5": "kandinsky5",
    "ernie-image": "ernie",
}


def skip_where_unknown(name: str) -> None:
    """A structure that this ComfyUI is too old for."""
    detection = (Path(os.environ["COMFYUI_DIR"]) / "comfy" / "model_detection.py").read_text(encoding="utf-8")
    for start, word in NEWER.items():
        if name.startswith(start) and word not in detection:
            pytest.skip(f"this ComfyUI is older than {start}")
