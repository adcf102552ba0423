"""Sources of layers that a module holds as one where diffusers has several: rows of one parameter that follow each other become one source."""

from __future__ import annotations

from typing import Iterable, Mapping

from .attention import FUSED_JOINT
from .spec import Source


def fused_sources(sources: Mapping[str, Source], wanted: Iterable[str]) -> dict[str, Source]:
    """`wanted`: names of the module's tensors. Parts whose whole is wanted make way for it."""
    out = dict(sources)
    for name in wanted:
        stem, _, kind = name.rpartition(".")
        owner, _, layer = stem.rpartition(".")
        parts = [f"{owner}.{part}.{kind}" for part in FUSED_JOINT.get(layer, ())]
        # A part that the checkpoint lacks leaves the whole without a source, which is refused by name when it is bound.
        if name in out or not parts or any(part not in out for part in parts):
            continue
        found = [out.pop(part) for part in parts]
        rows = [source.rows for source in found if source.rows is not None]
        out[name] = Source(found[0].parameter, (min(start for start, _ in rows), sum(length for _, length in rows)))
    return out
