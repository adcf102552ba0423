"""Names of the UNet families: canonical (LDM checkpoint) name <-> diffusers module path, by rule.

In: a canonical parameter name and the number of residual blocks per level. Out: the name diffusers gives the same tensor.
The rule is positional: `input_blocks` and `output_blocks` count residual blocks and resamplers through all levels, while
diffusers counts them inside each level. Nothing here knows a family; the tests compare with diffusers' own converter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import UnsupportedStructure

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)\.(weight|bias)")
MIDDLE = re.compile(r"middle_block\.(\d+)\.(.+)\.(weight|bias)")


def diffusers_name(name: str, layers: Sequence[int], label_module: str = "add_embedding") -> str:
    """Returns diffusers' name of the canonical parameter `name`.

    `layers`: residual blocks per level on the way down (a level on the way up has one more). `label_module`: where
    `label_emb` goes, `add_embedding` (SDXL) or `class_embedding` (unCLIP). Raises UnsupportedStructure.
    """
    stem, _, kind = name.rpartition(".")
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    if stem in ("label_emb.0.0", "label_emb.0.2"):
        return f"{label_module}.linear_{1 if stem.endswith('.0.0') else 2}.{kind}"
    if match := BLOCK.fullmatch(name):
        side, index, slot, rest, kind = match.groups()
        down = side == "input_blocks"
        level, place = _position(int(index) - 1 if down else int(index), layers if down else layers[::-1])
        block = f"{'down' if down else 'up'}_blocks.{level}"
        if rest == ("op" if down else "conv"):
            return f"{block}.{'downsamplers' if down else 'upsamplers'}.0.conv.{kind}"
        return f"{block}.{_inner(int(slot), place, rest, name)}.{kind}"
    if match := MIDDLE.fullmatch(name):
        slot, rest, kind = match.groups()
        index = int(slot)
        return f"mid_block.{_inner(index % 2, index // 2, rest, name)}.{kind}"
    raise UnsupportedStructure(f"expected a UNet parameter name, got {name!r}: this structure is not supported")


def _inner(slot: int, place: int, rest: str, name: str) -> str:
    if slot == 0:
        if rest not in RESNET:
            raise UnsupportedStructure(f"expected a residual block's layer, got {name!r}: this structure is not supported")
        return f"resnets.{place}.{RESNET[rest]}"
    return f"attentions.{place}.{rest}"


def _position(index: int, layers: Sequence[int]) -> tuple[int, int]:
    """Level and place inside it. Every level holds its residual blocks plus one: a downsampler, or one more block on the way up."""
    for level, count in enumerate(layers):
        if index < count + 1:
            return level, index
        index -= count + 1
    raise UnsupportedStructure(f"expected at most {sum(layers) + len(layers)} blocks, got more: this structure is not supported")
