"""The blocks that a step enters one after the other, as units of streaming."""

from __future__ import annotations

import re
from collections import Counter

from ..weights.split import Unit
from .spec import ModelSpec


def units_of(spec: ModelSpec) -> list[Unit]:
    """The module's repeated blocks in the order of a step, each with the canonical parameters that it alone uses.

    Canonical names number blocks in that order (`input_blocks` < `middle_block` < `output_blocks`, `double` < `single`); the
    module's own registration order is another one.
    """
    paths = [path for path, child in spec.build().named_modules() if type(child).__name__ in spec.repeated]
    owners: dict[str, set[str]] = {}
    for name, source in spec.sources.items():
        inside = max((path for path in paths if name.startswith(f"{path}.")), key=len, default="")
        owners.setdefault(source.parameter, set()).add(inside)
    mine: dict[str, list[str]] = {path: [] for path in paths}
    for parameter, where in owners.items():
        (path, *others) = where
        if path and not others:
            mine[path].append(parameter)
    units = [Unit(path, tuple(sorted(names))) for path, names in mine.items() if names]
    assert max(Counter(name for unit in units for name in unit.parameters).values(), default=1) == 1
    return sorted(units, key=lambda unit: _order(unit.parameters[0]))


def _order(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"[.]", name)]
