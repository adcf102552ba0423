"""UNet families: from canonical names and shapes to the diffusers configuration that builds the same network.

In: canonical shapes. Out: a UnetPlan. Everything is read off the header; options that no shape shows (heads, upcasting) follow
the one rule that all published models of these families share, stated beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .errors import UnsupportedStructure
from .header import Shapes


@dataclass(frozen=True)
class UnetPlan:
    """How to build one UNet. `layers`: residual blocks per level on the way down."""

    family: str
    config: dict[str, Any]
    layers: tuple[int, ...]
    label_module: str
    y_width: int | None
    context_width: int
    upcast_attention: bool


def is_unet(shapes: Shapes) -> bool:
    return "input_blocks.0.0.weight" in shapes and "out.2.weight" in shapes


def plan_unet(shapes: Shapes) -> UnetPlan:
    """Derives the configuration. Raises UnsupportedStructure where diffusers has no such network."""
    levels = _levels(shapes)
    layers = tuple(len(level) for level in levels)
    widths = tuple(shapes[f"{level[-1]}.0.out_layers.3.weight"][0] for level in levels)
    depths = [[_depth(shapes, f"{block}.1") for block in level] for level in levels]
    up_depths = _up_depths(shapes, layers)
    middle = _middle(shapes)
    context = _context_width(shapes)
    linear = any(name.endswith(".proj_in.weight") and len(shape) == 2 for name, shape in shapes.items())
    y_width = shapes["label_emb.0.0.weight"][1] if "label_emb.0.0.weight" in shapes else None
    family = _family(context, y_width, linear, len(levels))
    # SD2's attention scores overflow f16; its published configurations ask for f32 there.
    upcast = family == "sd2"
    config: dict[str, Any] = {
        "sample_size": 64,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": list(widths),
        "layers_per_block": list(layers),
        "down_block_types": ["CrossAttnDownBlock2D" if any(level) else "DownBlock2D" for level in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if any(level) else "UpBlock2D" for level in up_depths],
        "mid_block_type": {None: None, 0: "UNetMidBlock2D"}.get(middle, "UNetMidBlock2DCrossAttn"),
        "transformer_layers_per_block": _down_and_middle(depths, middle),
        "reverse_transformer_layers_per_block": [_tidy(level) for level in up_depths],
        "cross_attention_dim": context,
        # diffusers reads this as the number of heads. Convolutional projections came with 8 heads, linear ones with 64 channels a head.
        "attention_head_dim": [_heads(width, linear) for width in widths],
        "use_linear_projection": linear,
        "upcast_attention": upcast,
    }
    if y_width is not None:
        config |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": y_width}
    _check_levels(depths, "input")
    _check_levels(up_depths, "output")
    return UnetPlan(family, config, layers, "add_embedding", y_width, context, upcast)


def _levels(shapes: Shapes) -> list[list[str]]:
    """Blocks of each level, as name stems; a downsampler ends a level."""
    count = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"input_blocks\.(\d+)\.", name)))
    levels: list[list[str]] = [[]]
    for index in range(1, count):
        if f"input_blocks.{index}.0.op.weight" in shapes:
            levels.append([])
        elif f"input_blocks.{index}.0.in_layers.2.weight" in shapes:
            levels[-1].append(f"input_blocks.{index}")
        else:
            raise UnsupportedStructure(
                f"expected a residual block or a downsampler at input_blocks.{index}: this structure is not supported"
            )
    if not all(levels):
        raise UnsupportedStructure("expected at least one residual block in every level: this structure is not supported")
    return levels


def _depth(shapes: Shapes, stem: str) -> int:
    """Number of transformer blocks under `stem`; 0 where there is no attention."""
    found = {int(match[1]) for name in shapes if (match := re.match(re.escape(stem) + r"\.transformer_blocks\.(\d+)\.", name))}
    return max(found) + 1 if found else 0


def _up_depths(shapes: Shapes, layers: tuple[int, ...]) -> list[list[int]]:
    depths, index = [], 0
    for count in reversed(layers):
        depths.append([_depth(shapes, f"output_blocks.{index + place}.1") for place in range(count + 1)])
        index += count + 1
    return depths


def _middle(shapes: Shapes) -> int | None:
    """Transformer blocks in the middle; 0 = a residual block alone, None = no middle at all."""
    if "middle_block.0.in_layers.0.weight" not in shapes:
        return None
    return _depth(shapes, "middle_block.1")


def _context_width(shapes: Shapes) -> int:
    widths = {shape[1] for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")}
    if len(widths) != 1:
        raise UnsupportedStructure(
            f"expected one text width in all cross attentions, found {sorted(widths)}: this structure is not supported"
        )
    return widths.pop()


def _heads(width: int, linear: bool) -> int:
    return max(1, width // 64) if linear else 8


def _check_levels(levels: list[list[int]], side: str) -> None:
    if any(0 in level and any(level) for level in levels):
        raise UnsupportedStructure(
            f"expected attention after all {side} blocks of a level or after none, found a mixture: diffusers cannot build it"
        )


def _down_and_middle(depths: list[list[int]], middle: int | None) -> list[int | list[int]]:
    """diffusers takes the middle's depth from the last level's entry, which counts for nothing else where that level has no attention."""
    entries = [_tidy(level) for level in depths]
    if middle and not any(depths[-1]):
        entries[-1] = middle
    elif middle and middle != depths[-1][0]:
        raise UnsupportedStructure(
            f"expected the middle as deep as the last level's first block ({depths[-1][0]}), found {middle}: diffusers cannot build it"
        )
    return entries


def _tidy(level: list[int]) -> int | list[int]:
    return max(1, level[0]) if len(set(level)) == 1 else level


def _family(context: int, y_width: int | None, linear: bool, levels: int) -> str:
    """The families' layouts; widths are not asked for, so small and re-trained relatives keep their family (the catalog's rule)."""
    if y_width is None:
        return "sd2" if linear else "sd15"
    if context == 1024:
        return "sd2"
    return "sdxl-refiner" if levels == 4 else "sdxl"
