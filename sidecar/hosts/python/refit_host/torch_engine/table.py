"""The table of an engine that has no graph: what graph.json says of the others, from the module itself."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from refit_graphs.header import structure_hash

from ..failure import HostFailure
from ..host.bundle import Bundle, Row
from ..models.spec import ModelSpec


def bundle_of(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]]) -> Bundle:
    """Raises HOST_GRAPH_INVALID for a family whose steps need a graph's table."""
    if spec.ports is None:
        raise HostFailure(
            "HOST_GRAPH_INVALID", f"expected a graph: {spec.family} engines are loaded with one; export it", {"family": spec.family}
        )
    rows = tuple(
        Row(
            source.parameter,
            name,
            shapes[source.parameter] if source.rows is None else (source.rows[1], *shapes[source.parameter][1:]),
            source.rows,
            source.swap_halves,
            True,
        )
        for name, source in spec.sources.items()
    )
    return Bundle(Path(), spec.family, spec.family, structure_hash(dict(shapes)), {}, spec.ports.inputs, spec.ports.outputs, (), rows)
