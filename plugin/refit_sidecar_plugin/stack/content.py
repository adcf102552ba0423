"""Writes patches in the one spelling of adapter tensors that names a layer by its own parameter: `diffusion_model.<layer>.<part>`."""

from __future__ import annotations

import struct

from .arrange import ContentItem, FileItem
from .patches import Patch, TensorRef

# Kinds whose parts have a spelling in an adapter file. A row of a fused weight has none in this spelling.
KINDS = frozenset({"lora", "loha", "lokr", "glora", "oft", "boft", "diff", "set"})

ContentTensor = tuple[str, str, tuple[int, ...], bytes]


class NotExpressible(Exception):
    """A patch that no adapter file can hold. The text names the parameter and what it is."""


def content_tensors(item: ContentItem | FileItem) -> list[ContentTensor]:
    """(name, dtype as in safetensors, shape, bytes) of each tensor, in a fixed order, so that equal content gives an equal identity."""
    out: list[ContentTensor] = []
    for patch in sorted(item.patches, key=lambda patch: patch.target.parameter):
        stem = _stem(patch)
        for name, part in patch.parts:
            if part is None:
                continue
            out.append((f"{stem}.{name}", *_tensor(part)))
    return out


def _stem(patch: Patch) -> str:
    target = patch.target
    if patch.kind not in KINDS:
        raise NotExpressible(f"a patch of kind {patch.kind!r} on {target.parameter}")
    if target.rows is not None or target.swapped:
        raise NotExpressible(f"a patch on some rows of {target.parameter}")
    whole = patch.kind in ("diff", "set") and not target.parameter.endswith(".weight")
    return "diffusion_model." + (target.parameter if whole else target.parameter.removesuffix(".weight"))


def _tensor(part: object) -> tuple[str, tuple[int, ...], bytes]:
    if isinstance(part, TensorRef):
        return part.dtype, part.shape, part.read()
    if isinstance(part, tuple):
        return "I64", (len(part),), struct.pack(f"<{len(part)}q", *part)
    assert isinstance(part, (int, float))
    # Files hold alpha in 16 or 32 bits, so that this loses nothing; the wire has no wider floats.
    return "F32", (), struct.pack("<f", float(part))
