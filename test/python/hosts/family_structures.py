"""Small relatives of real checkpoints, one per family that the torch host serves without a graph. In: real headers of test/golden/headers. Out: canonical shapes."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Mapping

import pytest
from refit_graphs.descriptions import canonical_names
from transformer_structures import flux, golden_header, sd3, sd35_medium, wan, wan22_5b, wan_animate, wan_vace

Shapes = dict[str, tuple[int, ...]]


def stored(header: str, sizes: Mapping[int, int], lists: Mapping[str, int]) -> Shapes:
    """Every dimension through `sizes`; of each list of blocks its first ones. Names as the file has them."""
    shapes = {}
    for name, shape in golden_header(header).items():
        cut = False
        for stem, count in lists.items():
            match = re.match(rf"{re.escape(stem)}\.(\d+)\.", name)
            cut = cut or (match is not None and int(match[1]) >= count)
        if not cut:
            shapes[name] = tuple(sizes.get(size, size) for size in shape)
    return shapes


def small(header: str, sizes: Mapping[int, int], lists: Mapping[str, int]) -> Shapes:
    """The same in canonical names."""
    found = stored(header, sizes, lists)
    canonical = canonical_names(found)
    return {canonical[name]: shape for name, shape in found.items()}


def times(real: int, narrow: int, *factors: int) -> dict[int, int]:
    return {real * factor: narrow * factor for factor in factors}


def z_image(times_inner: int = 1024) -> Shapes:
    """`times_inner`: inner width of the time's embedding; diffusers has one for all, ComfyUI makes it no wider than the model."""
    return small("z-image", times(3840, 384, 1, 3, 4) | {10240: 1024, 2560: 40, 1024: times_inner}, {"layers": 2})


def qwen_image() -> Shapes:
    return small("qwen-image", times(3072, 256, 1, 2, 4, 6) | {3584: 40}, {"transformer_blocks": 2})


def qwen_image_edit_2511() -> Shapes:
    return small("qwen-image-edit-2511", times(3072, 256, 1, 2, 4, 6) | {3584: 40}, {"transformer_blocks": 2})


def qwen_image_21() -> Shapes:
    return small("qwen-image-2.1", times(4096, 256, 1, 3, 4, 6), {"transformer_blocks": 2})


def flux2_dev() -> Shapes:
    return small("flux2-dev", times(6144, 256, 1, 2, 3, 4, 6, 9) | {15360: 40, 128: 128}, {"double_blocks": 2, "single_blocks": 2})


def flux2_klein() -> Shapes:
    return small("flux2-klein-4b", times(3072, 256, 1, 2, 3, 4, 6, 9) | {7680: 40}, {"double_blocks": 2, "single_blocks": 2})


def flux3_klein() -> Shapes:
    return small(
        "flux3-klein-base",
        times(3072, 256, 1, 2, 3, 6) | {20480: 40},
        {"content_mode_blocks.image": 2, "content_mode_blocks.image_cond": 2, "txt_mode_blocks": 2, "single_blocks": 2},
    )


def flux3_distilled() -> Shapes:
    """It takes the time that a step jumps to."""
    shapes = flux3_klein()
    return shapes | {name.replace("time_in", "ref_time_in"): shape for name, shape in shapes.items() if name.startswith("time_in")}


def krea2() -> Shapes:
    sizes = times(6144, 256, 1, 6) | {1536: 128, 16384: 768, 2560: 256, 6912: 768}
    return small("krea2", sizes, {"blocks": 2})


def lumina2() -> Shapes:
    return small("lumina2", times(2304, 288, 1, 4) | {3840: 480, 1024: 288}, {"layers": 2})


def chroma() -> Shapes:
    """At full depth: ComfyUI's table of modulations has one length."""
    return small("chroma", times(3072, 64, 1, 3, 4, 5, 7) | {128: 32, 4096: 48, 5120: 96}, {})


def anima() -> Shapes:
    return small("anima", times(2048, 128, 1, 2, 3, 4) | {1024: 64}, {"blocks": 2, "llm_adapter.blocks": 2})


def ltxv() -> Shapes:
    return small("ltxv-2b", times(2048, 128, 1, 4, 6) | {4096: 48}, {"transformer_blocks": 2})


def ltx2() -> Shapes:
    sizes = times(4096, 256, 1, 4, 6) | times(2048, 128, 1, 4, 6) | times(3840, 128, 1, 4)
    return small("ltx2-19b", sizes, {"transformer_blocks": 2})


def ltx23() -> Shapes:
    """Later releases: gates on every attention, words that change with time, no projection of words, and marks of the first frame; no biases in the video's layers."""
    shapes: Shapes = {}
    for name, shape in ltx2().items():
        if name.startswith("video_embeddings"):
            shape = tuple(2 * size if size != 128 or "registers" not in name else size for size in shape)
            shape = (128, 256) if "registers" in name else shape
        if name.endswith("_table") and shape[0] == 6:
            stem, kind = name.rsplit(".", 1)
            shapes[f"{stem}.{kind.replace('scale_shift', 'prompt_scale_shift')}"] = (2, shape[1])
            shape = (9, shape[1])
        if name.startswith(("adaln_single.linear", "audio_adaln_single.linear")):
            shape = (shape[0] // 6 * 9, *shape[1:])
        if not ("caption_projection" in name or name.endswith("bias") and ".ff." in name and name.startswith("transformer")):
            shapes[name] = shape
        if name.endswith(".q_norm.weight"):
            heads = shape[0] // 128 if "embeddings_connector" in name else 32
            layer = name.removesuffix("q_norm.weight")
            width = ltx2()[f"{layer}to_q.weight"][1] * (2 if name.startswith("video_embeddings") else 1)
            shapes |= {f"{layer}to_gate_logits.weight": (heads, width), f"{layer}to_gate_logits.bias": (heads,)}
        if name.startswith(("adaln_single", "audio_adaln_single")):
            prompt = name.replace("adaln_single", "prompt_adaln_single")
            shapes[prompt] = (shape[0] // 9 * 2, *shape[1:]) if ".linear." in name else shape
    return shapes | {"keyframes_abs_pos_embedding": (1, 256)}


def minimax_h3() -> Shapes:
    sizes = times(5376, 192, 1, 2, 18) | times(7168, 256, 1, 3) | times(14336, 320, 1, 2) | {2688: 160, 5120: 48}
    return small("minimax-h3", sizes, {"blocks": 2, "token_refiner.blocks": 2})


def minimax_h3_table() -> Shapes:
    """A release that holds a table in place of the time's layers."""
    shapes = {name: shape for name, shape in minimax_h3().items() if not name.startswith("time_embedder")}
    narrow = {name: (shape[0], 24) for name, shape in shapes.items() if name.endswith("adaln_proj.linear.weight")}
    return shapes | narrow | {"adaln_t_table": (33, 24)}


def hunyuan_video() -> Shapes:
    sizes = times(3072, 256, 1, 2, 3, 4, 5, 6, 7) | {4096: 48, 768: 40}
    return small("hunyuan-video", sizes, {"double_blocks": 2, "single_blocks": 2})


def hunyuan_video_15() -> Shapes:
    """The second encoder's layers have one width everywhere."""
    shapes = small("hunyuan-video-1.5", times(2048, 256, 1, 2, 3, 4, 6) | {3584: 48}, {"double_blocks": 2})
    inner = golden_header("hunyuan-video-1.5")["byt5_in.fc2.weight"][1]
    letters = {
        "fc1.weight": (inner, 1472),
        "fc1.bias": (inner,),
        "fc2.weight": (inner, inner),
        "fc2.bias": (inner,),
        "fc3.weight": (256, inner),
    }
    return shapes | {f"byt5_in.{name}": shape for name, shape in letters.items()}


def kandinsky5() -> Shapes:
    sizes = times(1792, 128, 1, 2, 6, 9) | {7168: 256, 512: 64, 768: 40}
    return small("kandinsky5-lite-video", sizes, {"visual_transformer_blocks": 2, "text_transformer_blocks": 2})


def kandinsky5_image() -> Shapes:
    sizes = times(2560, 256, 1, 2, 6, 9) | {10240: 320, 512: 64, 3584: 48, 768: 40}
    return small("kandinsky5-lite-image", sizes, {"visual_transformer_blocks": 2, "text_transformer_blocks": 2})


def ernie_image() -> Shapes:
    return small("ernie-image", times(4096, 256, 1, 2, 6) | {12288: 320, 3072: 40}, {"layers": 2})


def hidream() -> Shapes:
    sizes = times(2560, 128, 1, 2, 6, 12) | {6912: 512, 3584: 256, 4096: 48, 2048: 40}
    return small("hidream-i1", sizes, {"double_stream_blocks": 2, "single_stream_blocks": 2, "caption_projection": 5})


STRUCTURES = {
    "z-image": z_image,
    "qwen-image": qwen_image,
    "qwen-image-edit-2511": qwen_image_edit_2511,
    "qwen-image-2.1": qwen_image_21,
    "flux2-dev": flux2_dev,
    "flux2-klein-4b": flux2_klein,
    "flux3-klein-base": flux3_klein,
    "flux3-klein": flux3_distilled,
    "krea2": krea2,
    "lumina2": lumina2,
    "chroma": chroma,
    "anima": anima,
    "ltxv": ltxv,
    "ltx2": ltx2,
    "ltx23": ltx23,
    "minimax-h3": minimax_h3,
    "hunyuan-video": hunyuan_video,
    "hunyuan-video-1.5": hunyuan_video_15,
    "kandinsky5": kandinsky5,
    "kandinsky5-image": kandinsky5_image,
    "hidream": hidream,
    "ernie-image": ernie_image,
    "wan21-vace": wan_vace,
    "wan22-animate": wan_animate,
}
# Families whose class ComfyUI 0.33 has not yet.
NEWER = ("qwen-image-2.1", "flux3-klein-base", "flux3-klein")
# As ComfyUI's classes have them.
COMFYUI = (
    {name: make for name, make in STRUCTURES.items() if name not in NEWER}
    | {"z-image": partial(z_image, 384), "flux-dev": flux, "minimax-h3-table": minimax_h3_table}
    | {
        "sd3": sd3,
        "sd35-medium": sd35_medium,
        "wan21-t2v": lambda: wan("wan21-t2v-1.3b"),
        "wan21-i2v": lambda: wan("wan21-i2v-14b", 1280),
        "wan22-a14b": lambda: wan("wan22-i2v-14b"),
        "wan22-5b": wan22_5b,
    }
)


def with_the_rest_later(*names: str) -> list[Any]:
    """All structures as parameters of a test; those that are not named run with the long tests."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.e2e) for name in STRUCTURES]
