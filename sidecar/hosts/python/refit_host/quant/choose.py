"""Which layers are quantised: those that the file holds in the engine's own format; where it holds none, the large products inside repeated blocks. Everything else stays as it is.

Left out, because they cost little time and memory or spoil most: embeddings of picture, text and time, the modulation that time gives
(its error moves whole channels), norms, convolutions, the last layer, and what has sizes that the format cannot hold.
"""

from __future__ import annotations

from typing import Mapping

from torch import nn

from ..models.spec import ModelSpec, Source
from .formats import Format

# Parts of layer names whose input is the time (and pooled text), not the tokens.
MODULATION = ("norm", "time_emb_proj", "ada_norm", "modulation")


def quantised_layers(
    module: nn.Module, spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]], form: Format, of_file: frozenset[str] = frozenset()
) -> dict[str, Source]:  # fmt: skip
    """Name of each quantised linear layer -> where its weight lies. A parameter with a user that is not quantised stays whole. `of_file`: parameters that the file
    holds in this format."""
    inside = [name for name, child in module.named_modules() if type(child).__name__ in spec.repeated]
    found = {}
    for name, layer in module.named_modules():
        source = spec.sources.get(f"{name}.weight")
        if isinstance(layer, nn.Linear) and source is not None and _fits(layer, source, form):
            if source.parameter in of_file or (not of_file and _is_product(name, inside)):
                found[name] = source
    users: dict[str, int] = {}
    for source in spec.sources.values():
        users[source.parameter] = users.get(source.parameter, 0) + 1
    taken: dict[str, int] = {}
    for source in found.values():
        taken[source.parameter] = taken.get(source.parameter, 0) + 1
    matrix = {parameter for parameter, count in taken.items() if count == users[parameter] and len(shapes[parameter]) == 2}
    return {name: source for name, source in found.items() if source.parameter in matrix}


def plain_matrices(shapes: Mapping[str, tuple[int, ...]], form: Format, of_file: frozenset[str] = frozenset()) -> list[str]:
    """Of parameters without a module: those of the file that are in this format, or else every matrix that the format can hold."""
    fitting = [name for name, shape in shapes.items() if len(shape) == 2 and all(size % form.multiple == 0 for size in shape)]
    return [name for name in fitting if not of_file or name in of_file]


def _fits(layer: nn.Linear, source: Source, form: Format) -> bool:
    start = source.rows[0] if source.rows else 0
    sizes = (layer.in_features, layer.out_features, start)
    return not source.swap_halves and all(size % form.multiple == 0 for size in sizes)


def _is_product(name: str, inside: list[str]) -> bool:
    block = next((block for block in inside if name.startswith(f"{block}.")), None)
    return block is not None and not any(part in name[len(block) :] for part in MODULATION)
