"""Structures of real size by name: headers of real checkpoints where the golden data has them, the published differences elsewhere."""

from __future__ import annotations

import gzip
import json
import re

from refit_graphs.descriptions import canonical_names
from refit_host.models.spec import Shapes

from .context import ROOT

HEADERS = ROOT / "test" / "golden" / "headers"
# Name -> (header, change, sizes of a step).
PICTURE = {"batch": 2, "height": 128, "width": 128, "tokens": 77}
TRANSFORMER = {"batch": 1, "height": 128, "width": 128, "tokens": 333}
VIDEO = {"batch": 1, "frames": 5, "height": 60, "width": 104, "tokens": 512, "image_tokens": 257}


def header(name: str) -> dict[str, tuple[int, ...]]:
    """A checkpoint's parameters by their canonical names."""
    with gzip.open(HEADERS / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        shapes = {key: tuple(shape) for key, shape in json.load(file).items()}
    names = canonical_names(shapes)
    return {names[key]: shape for key, shape in shapes.items()}


def sd35_medium() -> Shapes:
    """SD3 medium with normalised queries and keys, a second attention in its first 13 blocks and a larger table of positions."""
    shapes = header("sd3-medium")
    width = shapes["x_embedder.proj.weight"][0]
    shapes["pos_embed"] = (1, 384 * 384, width)
    for name, shape in list(shapes.items()):
        if found := re.fullmatch(r"(joint_blocks\.(\d+)\.(x|context)_block)\.attn\.qkv\.weight", name):
            stem, index, side = found.groups()
            shapes |= {f"{stem}.attn.ln_{part}.weight": (64,) for part in "qk"}
            if side == "x" and int(index) < 13:
                shapes |= {
                    f"{stem}.attn2.qkv.weight": shape,
                    f"{stem}.attn2.qkv.bias": shape[:1],
                    f"{stem}.attn2.proj.weight": (width, width),
                    f"{stem}.attn2.proj.bias": (width,),
                }
                shapes |= {f"{stem}.attn2.ln_{part}.weight": (64,) for part in "qk"}
                shapes |= {f"{stem}.adaLN_modulation.1.weight": (9 * width, width), f"{stem}.adaLN_modulation.1.bias": (9 * width,)}
    return shapes


def wan22_5b() -> Shapes:
    """Wan 2.1's layout, 3072 wide, 30 blocks, 48 latent channels."""
    sizes = {1536: 3072, 6 * 1536: 6 * 3072, 8960: 14336, 16: 48, 64: 192}
    return {name: tuple(sizes.get(n, n) for n in shape) for name, shape in header("wan21-t2v-1.3b").items()}


def first_blocks(shapes: Shapes, stem: str, count: int) -> Shapes:
    """A checkpoint's first blocks, at their real width."""
    return {
        name: shape for name, shape in shapes.items() if (found := re.match(rf"{stem}\.(\d+)\.", name)) is None or int(found[1]) < count
    }


FAMILIES = {
    "sd15": (lambda: header("sd15"), PICTURE | {"height": 64, "width": 64}),
    "sd2": (lambda: header("sd2"), PICTURE | {"height": 96, "width": 96}),
    "sdxl": (lambda: header("sdxl"), PICTURE),
    "sdxl-refiner": (lambda: header("sdxl-refiner"), PICTURE),
    "sd3-medium": (lambda: header("sd3-medium"), TRANSFORMER),
    "sd35-medium": (sd35_medium, TRANSFORMER),
    "sd35-large": (lambda: header("sd35-large"), TRANSFORMER),
    "flux-dev": (lambda: header("flux-dev"), TRANSFORMER | {"tokens": 512}),
    "flux-schnell": (lambda: header("flux-schnell"), TRANSFORMER | {"tokens": 256}),
    "wan21-t2v-1.3b": (lambda: header("wan21-t2v-1.3b"), VIDEO),
    "wan22-5b": (wan22_5b, VIDEO | {"height": 44, "width": 80}),
    "wan22-a14b": (lambda: header("wan22-i2v-14b"), VIDEO | {"frames": 3}),
    "z-image": (lambda: header("z-image"), TRANSFORMER | {"tokens": 200}),
    "qwen-image-20": (lambda: first_blocks(header("qwen-image"), "transformer_blocks", 20), TRANSFORMER | {"tokens": 256, "frames": 1}),
    "qwen-image": (lambda: header("qwen-image"), TRANSFORMER | {"tokens": 256, "frames": 1}),
    "flux2-klein-4b": (lambda: header("flux2-klein-4b"), TRANSFORMER | {"tokens": 512, "height": 64, "width": 64}),
    "chroma": (lambda: header("chroma"), TRANSFORMER | {"tokens": 512}),
    "anima": (lambda: header("anima"), TRANSFORMER | {"tokens": 512, "frames": 1}),
    "ltxv-2b": (lambda: header("ltxv-2b"), VIDEO | {"frames": 13, "height": 16, "width": 24, "tokens": 256}),
}


def narrow_z_image() -> Shapes:
    """To try a piece without a GPU."""
    sizes = {3840: 384, 11520: 1152, 15360: 1536, 10240: 1024, 2560: 40}
    return {name: tuple(sizes.get(n, n) for n in shape) for name, shape in first_blocks(header("z-image"), "layers", 2).items()}


# Those with fused blocks, with as many blocks as fit beside a compiler's time.
FUSED = {
    "z-image": (lambda: first_blocks(header("z-image"), "layers", 20), TRANSFORMER | {"tokens": 192}),
    "qwen-image": (lambda: first_blocks(header("qwen-image"), "transformer_blocks", 16), TRANSFORMER | {"tokens": 256, "frames": 1}),
    "wan21-t2v-14b": (lambda: first_blocks(header("wan21-t2v-14b"), "blocks", 10), VIDEO | {"frames": 9}),
    "z-image-tiny": (narrow_z_image, TRANSFORMER | {"tokens": 20, "height": 8, "width": 8}),
}
# Those of the plan: the 20 B Qwen-Image is measured with a third of its blocks.
IN_PLAN = tuple(name for name in FAMILIES if name not in ("qwen-image", "anima", "ltxv-2b"))
# Two checkpoints, for high and for low noise, on one structure.
PAIRS = ("wan22-a14b",)
