"""Small transformers with the layout of real checkpoints. In: a real header of test/golden/headers. Out: canonical shapes with narrow dimensions."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping

import torch
from graph_structures import ROOT
from refit_graphs.exportable import Exportable
from refit_graphs.header import Shapes


def golden_header(name: str) -> Shapes:
    with gzip.open(ROOT / "test/golden/headers" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return {key: tuple(shape) for key, shape in json.load(file).items()}


def shrink(shapes: Shapes, sizes: Mapping[int, int], blocks: Mapping[str, Mapping[int, int]]) -> Shapes:
    """Replaces dimensions by `sizes`, and keeps of each block list (`blocks`: list name -> old index -> new index) only the blocks named."""
    small = {}
    for name, shape in shapes.items():
        match = re.match(r"(\w*blocks)\.(\d+)\.(.+)", name)
        if match:
            kept = blocks[match[1]]
            if int(match[2]) not in kept:
                continue
            name = f"{match[1]}.{kept[int(match[2])]}.{match[3]}"
        small[name] = tuple(sizes.get(n, n) for n in shape)
    return small


def _times(real: int, small: int, *factors: int) -> dict[int, int]:
    return {real * factor: small * factor for factor in factors}


def sd3() -> Shapes:
    sizes = _times(1536, 128, 1, 2, 3, 4, 6) | {4096: 48, 2048: 40, 36864: 144}
    return shrink(golden_header("sd3-medium"), sizes, {"joint_blocks": {0: 0, 23: 1}})


def sd35_medium() -> Shapes:
    """The same with normalised queries and keys, and a second attention in the first block, as SD3.5 medium has it."""
    shapes = dict(sd3())
    for block in (0, 1):
        for side in ("x_block", "context_block"):
            shapes |= {f"joint_blocks.{block}.{side}.attn.ln_{part}.weight": (64,) for part in "qk"}
    first = "joint_blocks.0.x_block"
    for part in ("qkv", "proj"):
        for kind in ("weight", "bias"):
            shapes[f"{first}.attn2.{part}.{kind}"] = shapes[f"{first}.attn.{part}.{kind}"]
    shapes |= {f"{first}.attn2.ln_{part}.weight": (64,) for part in "qk"}
    shapes |= {f"{first}.adaLN_modulation.1.weight": (9 * 128, 128), f"{first}.adaLN_modulation.1.bias": (9 * 128,)}
    return shapes


def flux(name: str = "flux-dev") -> Shapes:
    sizes = _times(3072, 64, 1, 2, 3, 4, 5, 6, 7) | {128: 32, 4096: 48, 768: 40}
    return shrink(golden_header(name), sizes, {"double_blocks": {0: 0, 18: 1}, "single_blocks": {0: 0, 37: 1}})


def flux_fill() -> Shapes:
    shapes = flux()
    return shapes | {"img_in.weight": (shapes["img_in.weight"][0], 384)}


def wan(name: str, image: int = 80) -> Shapes:
    """`image`: width of what a vision encoder sees; ComfyUI's class knows 1280 alone."""
    real = {"wan21-t2v-1.3b": 1536}.get(name, 5120)
    sizes = {real: 128, 8960: 96, 13824: 96, 4096: 48, real * 6: 128 * 6, 1280: image}
    return shrink(golden_header(name), sizes, {"blocks": {0: 0, 1: 1}})


def wan_vace() -> Shapes:
    sizes = _times(1536, 128, 1, 6) | {8960: 96, 4096: 48}
    return shrink(golden_header("wan21-vace-1.3b"), sizes, {"blocks": dict(enumerate(range(4))), "vace_blocks": {0: 0, 1: 1}})


def wan_animate() -> Shapes:
    """Ten blocks, two of them with faces; the motion encoder halves a picture twice. What ComfyUI's class has as a constant stays as it is."""
    sizes, convs = _times(5120, 256, 1, 2, 6) | {13824: 96, 4096: 48}, "motion_encoder.enc.net_app.convs"
    lists = {"blocks": dict(enumerate(range(10))), "fuser_blocks": {0: 0, 1: 1}}
    shapes = {}
    for name, shape in golden_header("wan22-animate-14b").items():
        match = re.match(r"(?:face_adapter\.)?(\w*blocks)\.(\d+)\.", name)
        if name.startswith(convs) or match and int(match[2]) not in lists[match[1]]:
            continue
        shapes[name] = shape if ".conv1_local." in name else tuple(sizes.get(n, n) for n in shape)
    shapes |= {f"{convs}.0.0.weight": (8, 3, 1, 1), f"{convs}.0.1.bias": (1, 8, 1, 1), f"{convs}.3.weight": (512, 16, 4, 4)}
    for number, (taken, given) in ((1, (8, 16)), (2, (16, 16))):
        block = f"{convs}.{number}"
        shapes |= {f"{block}.conv1.0.weight": (taken, taken, 3, 3), f"{block}.conv1.1.bias": (1, taken, 1, 1)}
        shapes |= {
            f"{block}.conv2.0.kernel": (4, 4),
            f"{block}.conv2.1.weight": (given, taken, 3, 3),
            f"{block}.conv2.2.bias": (1, given, 1, 1),
        }
        shapes |= {f"{block}.skip.0.kernel": (4, 4), f"{block}.skip.1.weight": (given, taken, 1, 1)}
    return shapes


def wan22_5b() -> Shapes:
    """Wan 2.2's small model has Wan 2.1's layout with 48 latent channels."""
    shapes = wan("wan21-t2v-1.3b")
    width = shapes["patch_embedding.weight"][0]
    return shapes | {"patch_embedding.weight": (width, 48, 1, 2, 2), "head.head.weight": (192, width), "head.head.bias": (192,)}


def random_weights(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 100
        weights[name] = torch.randn(shape, generator=generator) / fan_in**0.5 + (1.0 if "norm" in name or ".ln_" in name else 0.0)
    return weights


def through_refit_map(model: Exportable, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Graph inputs from canonical parameters, exactly as the rows of graph.json say."""
    inputs = {}
    for row in model.refit_map:
        tensor = weights[row["parameter"]]
        if part := row["slice"]:
            tensor = tensor[part["start"] : part["start"] + part["length"]]
        if row["swapHalves"]:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        assert list(tensor.shape) == row["shape"]
        inputs[row["weight"]] = tensor.contiguous()
    return inputs
